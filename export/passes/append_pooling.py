"""Pooling and activation inside the graph, so that logits (B, L, V) never exist, on the device or on the host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from spladerunner.export.passes.contract import Graph, Pass, UnmetError, logits

TILE = 4096
"""Vocabulary entries whose logits exist at one time."""

_LOGARITHMS = {"relu": 0, "log1p_relu": 1, "log1p_log1p_relu": 2}


@dataclass(frozen=True)
class AppendPooling(Pass):
    """Splits the decoder into tiles of the vocabulary, and pools and activates the logits of each.

    The maximum is exact: padded positions take the hidden state of their text's first position, as a duplicate cannot
    change a maximum, and the bias is added after it, as the addition is monotone. Products have the type of the
    decoder's matrix; bias, activation and sums are float32.

    pooling, activation: names as in a manifest. tile: vocabulary entries in a tile.
    Requires: a graph from input_ids and attention_mask to logits, the last product of which is the decoder's.
    Ensures: the same inputs, and weights (B, V), of the matrix's type, as the only output.
    """

    name: ClassVar[str] = "append pooling"
    pooling: str
    activation: str
    tile: int = TILE

    def requires(self, model: onnx.ModelProto) -> None:
        """Checks for logits, for the mask of padding, and for the decoder."""
        output = logits(model)
        if all(value.name != "attention_mask" for value in model.graph.input):
            raise UnmetError("the input attention_mask, but there is none")
        _Decoder.find(model.graph, output.name)

    def call(self, graph: Graph, target: Path) -> str:
        """Writes the graph with its decoder replaced."""
        found = graph.model.graph
        output = logits(graph.model)
        decoder = _Decoder.find(found, output.name)
        batch, _, vocabulary = output.type.tensor_type.shape.dim
        decoder.remove_from(found)
        _Pooling(found, self.pooling, _LOGARITHMS[self.activation], self.tile).append(decoder)
        found.output.remove(output)
        sizes = [axis.dim_param or axis.dim_value for axis in (batch, vocabulary)]
        found.output.append(helper.make_tensor_value_info("weights", decoder.type, sizes))
        onnx.save(graph.model, target)
        return ""

    def ensures(self, model: onnx.ModelProto) -> None:
        """Checks the output and the graph's consistency."""
        shapes = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.output}
        if shapes != {"weights": 2}:
            raise UnmetError(f"the output weights (B, V), but there are outputs of {shapes} dimensions")
        onnx.checker.check_model(model)


class _Decoder(NamedTuple):
    """hidden: name of (B, L, D). matrix: (D, V), float32 or float16. bias: (V,), zeros if there is none."""

    hidden: str
    matrix: NDArray[np.floating]
    bias: NDArray[np.float32]
    nodes: tuple[onnx.NodeProto, ...]

    @classmethod
    def find(cls, graph: onnx.GraphProto, output: str) -> _Decoder:
        """Reads the decoder from the end of a graph. Raises UnmetError if another operator makes the logits."""
        made = {value: node for node in graph.node for value in node.output}
        constants = {constant.name: constant for constant in graph.initializer}
        nodes: list[onnx.NodeProto] = []

        def before(value: str) -> onnx.NodeProto:
            while made[value].op_type in ("Cast", "Identity"):
                nodes.append(made[value])
                value = made[value].input[0]
            return made[value]

        node, bias = before(output), None
        if node.op_type == "Add" and any(value in constants for value in node.input):
            bias, value = sorted(node.input, key=lambda value: value not in constants)
            nodes.append(node)
            node = before(value)
        if node.op_type != "MatMul" or node.input[1] not in constants:
            raise UnmetError(f"a product with a constant matrix that gives the logits, but {node.op_type} gives them")
        matrix = numpy_helper.to_array(constants[node.input[1]])
        offset = np.zeros(1) if bias is None else numpy_helper.to_array(constants[bias]).reshape(-1)
        each = np.broadcast_to(offset.astype(np.float32), matrix.shape[1:])
        return cls(node.input[0], matrix, each, (*nodes, node))

    @property
    def type(self) -> int:
        """The type of hidden states and matrix."""
        return helper.np_dtype_to_tensor_dtype(self.matrix.dtype)

    def remove_from(self, graph: onnx.GraphProto) -> None:
        """Removes the decoder's nodes, and its constants if nothing else uses them."""
        for node in self.nodes:
            graph.node.remove(node)
        used = {value for node in graph.node for value in node.input}
        kept = [constant for constant in graph.initializer if constant.name in used]
        del graph.initializer[:], graph.value_info[:]
        graph.initializer.extend(kept)


class _Pooling:
    """Appends nodes to a graph that pool a decoder's logits."""

    def __init__(self, graph: onnx.GraphProto, pooling: str, logarithms: int, tile: int) -> None:
        self._graph = graph
        self._pooling = pooling
        self._logarithms = logarithms
        self._tile = tile

    def append(self, decoder: _Decoder) -> None:
        """Appends the decoder in tiles, pooling and activation, with the output weights."""
        mask = self._node("Unsqueeze", ["attention_mask", self._constant("last", np.array([-1]))], "mask")
        if self._pooling == "max":
            states = self._without_padding(decoder.hidden, mask)
            largest = [self._largest(states, *each) for each in self._tiles(decoder.matrix)]
            logits = self._float32(self._node("Concat", largest, "largest", axis=1), "largest_float32")
            logits = self._node("Add", [logits, self._constant("bias", decoder.bias)], "biased")
            weights = self._node("Add", [self._activated(logits, "activated"), self._guard(states)], "guarded")
        else:
            weighed = self._float32(mask, "mask_float32")
            tiles = zip(self._tiles(decoder.matrix), self._tiles(decoder.bias), strict=True)
            totals = [self._total(decoder.hidden, weighed, name, matrix, bias) for (name, matrix), (_, bias) in tiles]
            weights = self._node("Concat", totals, "totals", axis=1)
        self._node("Cast", [weights], "weights", to=decoder.type)

    def _tiles(self, array: NDArray[np.floating]) -> Iterator[tuple[str, NDArray[np.floating]]]:
        """Parts of the last axis, the vocabulary's, each with a name."""
        for start in range(0, array.shape[-1], self._tile):
            yield f"tile_{start}", array[..., start : start + self._tile]

    def _without_padding(self, hidden: str, mask: str) -> str:
        """The hidden states, those of padded positions replaced by their text's first."""
        zero, one = self._constant("zero", np.array([0])), self._constant("one", np.array([1]))
        first = self._node("Slice", [hidden, zero, one, one], "first")
        unmasked = self._node("Cast", [mask], "unmasked", to=TensorProto.BOOL)
        return self._node("Where", [unmasked, hidden, first], "states")

    def _largest(self, states: str, tile: str, matrix: NDArray[np.floating]) -> str:
        logits = self._node("MatMul", [states, self._constant(f"{tile}_matrix", matrix)], f"{tile}_logits")
        return self._node("ReduceMax", [logits, self._constant("one", np.array([1]))], f"{tile}_largest", keepdims=0)

    def _guard(self, states: str) -> str:
        """(B, 1): 0, or NaN for a text whose hidden states overflowed, which a maximum and relu may hide."""
        zero = self._constant("nothing", np.array(0, np.float32))
        zeros = self._node("Mul", [self._float32(states, "states_float32"), zero], "zeros")
        total = self._node("ReduceSum", [zeros, self._constant("both", np.array([1, 2]))], "guard_total", keepdims=0)
        return self._node("Unsqueeze", [total, self._constant("last", np.array([-1]))], "guard")

    def _total(
        self, hidden: str, mask: str, tile: str, matrix: NDArray[np.floating], bias: NDArray[np.floating]
    ) -> str:
        product = self._node("MatMul", [hidden, self._constant(f"{tile}_matrix", matrix)], f"{tile}_product")
        product = self._float32(product, f"{tile}_float32")
        logits = self._node("Add", [product, self._constant(f"{tile}_bias", bias)], f"{tile}_logits")
        unmasked = self._node("Mul", [self._activated(logits, f"{tile}_activated"), mask], f"{tile}_unmasked")
        return self._node("ReduceSum", [unmasked, self._constant("one", np.array([1]))], f"{tile}_total", keepdims=0)

    def _activated(self, value: str, name: str) -> str:
        """relu, then log(1 + x) as often as the activation says."""
        value = self._node("Relu", [value], f"{name}_positive")
        for count in range(self._logarithms):
            unit = self._constant("unit", np.array(1, np.float32))
            value = self._node("Log", [self._node("Add", [value, unit], f"{name}_above_{count}")], f"{name}_{count}")
        return value

    def _float32(self, value: str, name: str) -> str:
        return self._node("Cast", [value], name, to=TensorProto.FLOAT)

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        output = output if output == "weights" else f"pooling_{output}"
        self._graph.node.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def _constant(self, name: str, array: NDArray[np.generic]) -> str:
        name = f"pooling_constant_{name}"
        if all(constant.name != name for constant in self._graph.initializer):
            self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name
