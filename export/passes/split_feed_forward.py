"""Feed-forward blocks in parts of their columns, for models of long texts.

A block is a product that widens each position, functions of each number alone, and a product that narrows it again. Of
a text of 8,192 tokens, a value between the two takes 100 MB at 3,072 columns, and three of them exist at a time. The
narrowing product is a sum over columns, so it can be taken over one part of them after another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from spladerunner.export.passes.contract import Graph, Pass, check_float32, logits
from spladerunner.export.passes.unused import remove_unused

LONG = 2048
"""Positions of a model above which blocks are split."""

_OF_EACH_NUMBER = {"Add", "Sub", "Mul", "Div", "Erf", "Tanh", "Sigmoid", "Relu", "Gelu", "Pow"}


@dataclass(frozen=True)
class SplitFeedForward(Pass):
    """Computes feed-forward blocks in parts, and adds these up.

    positions: the most tokens that the model accepts. most_bytes: of a value between the products of a part.
    Requires: a float32 graph.
    Ensures: the same logits but for the order of the sums.
    """

    name: ClassVar[str] = "split feed-forward"
    positions: int
    most_bytes: int = 1 << 25

    def requires(self, model: onnx.ModelProto) -> None:
        """Checks that the weights are float32."""
        logits(model)
        check_float32(model)

    def call(self, graph: Graph, target: Path) -> str:
        """Writes the graph with its blocks in parts."""
        found = graph.model.graph
        split = 0
        for block in list(_blocks(found)):
            parts = -(-4 * self.positions * block.width // self.most_bytes)
            if parts > 1:
                _split(found, block, parts)
                split = parts
        if split:
            remove_unused(found)
        onnx.save(graph.model, target)
        return f"{split} parts" if split else "no block is wide"

    def ensures(self, model: onnx.ModelProto) -> None:
        """Checks the graph's consistency."""
        logits(model)
        onnx.checker.check_model(model)


class _Block(NamedTuple):
    """nodes: from the widening products on, in order. narrowing: the last product. width: of the values between."""

    nodes: tuple[onnx.NodeProto, ...]
    narrowing: onnx.NodeProto
    width: int


def _blocks(graph: onnx.GraphProto) -> Iterator[_Block]:
    shapes = {constant.name: tuple(constant.dims) for constant in graph.initializer}
    for node in graph.node:
        rows, columns = shapes.get(node.input[1], ()) if _is_product(node, shapes) else (0, 0)
        if rows > columns and (names := _between(graph, node, shapes, rows)):
            yield _Block(tuple(each for each in graph.node if each.output[0] in names), node, rows)


def _between(
    graph: onnx.GraphProto, narrowing: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]], width: int
) -> set[str] | None:
    """The values from the widening products to the narrowing one; None if it is no block."""
    made = {output: node for node in graph.node for output in node.output}
    found: set[str] = set()
    pending = [narrowing.input[0]]
    while pending:
        value = pending.pop()
        node = made.get(value)
        if value in found:
            continue
        if node is None or len(node.output) != 1:
            return None
        found.add(value)
        if _is_product(node, shapes):
            if shapes[node.input[1]][1] != width:
                return None
        elif node.op_type not in _OF_EACH_NUMBER:
            return None
        else:
            if any(int(np.prod(shapes[each])) not in (1, width) for each in node.input if each in shapes):
                return None
            pending += [each for each in node.input if each not in shapes]
    inside = found | {narrowing.output[0]}
    used_elsewhere = any(
        value in found for node in graph.node if node.output[0] not in inside for value in node.input
    ) or any(output.name in found for output in graph.output)
    return None if used_elsewhere else found


def _is_product(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return node.op_type == "MatMul" and len(shapes.get(node.input[1], ())) == 2


def _split(graph: onnx.GraphProto, block: _Block, parts: int) -> None:
    constants = {constant.name: constant for constant in graph.initializer}
    inside = {node.output[0] for node in block.nodes}
    made, total = [], ""
    for part, columns in enumerate(np.array_split(np.arange(block.width), parts)):
        renamed = {value: f"{value}_part_{part}" for value in inside}
        for node in (*block.nodes, block.narrowing):
            for value in node.input:
                if value in constants and value not in renamed:
                    array = numpy_helper.to_array(constants[value])
                    rows = node is block.narrowing
                    renamed[value] = _add_part(graph, value, f"{part}_of_{parts}", array, columns, rows=rows)
        for node in (*block.nodes, block.narrowing):
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{node.name}_part_{part}"
            copy.input[:] = [renamed.get(value, value) for value in node.input]
            copy.output[:] = [f"{node.output[0]}_part_{part}"]
            made.append(copy)
        value = made[-1].output[0]
        if total:
            sum_of = block.narrowing.output[0] if part == parts - 1 else f"{total}_and_{part}"
            made.append(helper.make_node("Add", [total, value], [sum_of], name=f"{block.narrowing.name}_sum_{part}"))
            value = sum_of
        total = value
    at = list(graph.node).index(block.narrowing)
    for node in (*block.nodes, block.narrowing):
        graph.node.remove(node)
    for node in reversed(made):
        graph.node.insert(at - len(block.nodes), node)


def _add_part(
    graph: onnx.GraphProto, name: str, part: str, array: NDArray[np.float32], columns: NDArray[np.int_], *, rows: bool
) -> str:
    """Adds the rows or columns of a constant, and returns the name; that of a single number stays.

    Blocks may share a constant, such as biases that are all zero, and then share its parts.
    """
    if array.size == 1:
        return name
    added = f"{name}_{'rows' if rows else 'columns'}_{part}"
    if not any(constant.name == added for constant in graph.initializer):
        made = array[columns] if rows else array[..., columns]
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(made), added))
    return added
