"""The decoder of a narrow model as rows, with the maximum over positions inside the graph.

onnxruntime's usual product of hidden states and the decoder is (L, V): the maximum over positions then reads and
compares rows that are V apart. Rows of the decoder times columns of hidden states are (V, L), whose maximum reads
contiguous integers; in tiles of the vocabulary, these stay in the processor's cache, and logits (L, V) never exist.
Wide models gain on some processors and lose on others (benchmarks/lab/README.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from spladerunner.export.passes.contract import Graph, Pass, UnmetError, int8_decoder, logits
from spladerunner.export.passes.unsigned import MIDDLE, make_unsigned
from spladerunner.export.passes.unused import remove_unused
from spladerunner.inference.session import LARGEST_LOGITS

WIDEST = 256
"""The most columns of a decoder that becomes rows."""

_ROWS = 1024
"""Of a tile: its product with 256 tokens is 1 MB."""

_TRIED = 8
"""Rows and columns of the product that is tried."""

_TOKENS, _ZERO = "rows_tokens", "rows_tokens_zero"


@dataclass(frozen=True)
class DecodeRows(Pass):
    """Multiplies rows of the decoder with the tokens, and keeps the largest logit of each vocabulary entry.

    The result is bit for bit the maximum over whole logits: hidden states become bytes with one scale for the whole
    text, as before, integer products are exact, and scale and bias, the same for all positions, do not change which is
    largest. Products of unsigned and signed bytes are the fastest where they do not saturate. The graph tries one with
    each text, and multiplies unsigned bytes where that product saturates: onnxruntime's option against that needs a
    constant matrix.

    rows: of a tile of the vocabulary. widest: a decoder with more columns is left as it is.
    Requires: logits.
    Ensures: the output is largest_logits, (1, 1, V), unless the decoder is wider, or is not the
    fused int8 product that FuseOperators leaves.
    """

    name: ClassVar[str] = "decode rows"
    rows: int = _ROWS
    widest: int = WIDEST

    def requires(self, model: onnx.ModelProto) -> None:
        """Checks for logits."""
        logits(model)

    def call(self, graph: Graph, target: Path) -> str:
        """Writes the graph with its decoder as rows, or as it is."""
        reason = self._reason_against(graph.model)
        if not reason:
            found = graph.model.graph
            _decode_rows(found, int8_decoder(found, logits(graph.model).name), self.rows)
        onnx.save(graph.model, target)
        return f"left as it is: {reason}" if reason else ""

    def ensures(self, model: onnx.ModelProto) -> None:
        """Checks the output and the graph's consistency."""
        output = logits(model).name
        if output != LARGEST_LOGITS and not self._reason_against(model):
            raise UnmetError(f"the output {LARGEST_LOGITS}, but it is {output}")
        onnx.checker.check_model(model)

    def _reason_against(self, model: onnx.ModelProto) -> str:
        """Why the decoder stays as it is, or ""."""
        try:
            decoder = int8_decoder(model.graph, logits(model).name)
        except UnmetError as error:
            return str(error)
        width = _width(model.graph, decoder.input[1])
        return f"{width} columns, more than {self.widest}" if width > self.widest else ""


def _decode_rows(graph: onnx.GraphProto, decoder: onnx.NodeProto, rows: int) -> None:
    """Replaces the decoder and the output, in place."""
    hidden, matrix, scale, *others = decoder.input
    bias = (*others, "", "")[1]
    size = graph.output[0].type.tensor_type.shape.dim[2].dim_value
    starts = range(0, size, rows)
    tiles = [f"rows_{start}" for start in starts]
    constants = {
        "rows_parts": np.array([min(rows, size - start) for start in starts]),
        "rows_middle": np.array(MIDDLE, dtype=np.int32),
        "rows_zero": np.array(MIDDLE, dtype=np.uint8),
        "rows_first_axis": np.array([1]),
        "rows_last_axis": np.array([2]),
        "rows_largest_byte": np.full((_TRIED, _TRIED), 255, dtype=np.uint8),
        "rows_largest_signed": np.array(127, dtype=np.int32),
        "rows_tried_shape": np.array([_TRIED, _TRIED]),
        "rows_exact": np.array(_TRIED * 255 * 127, dtype=np.int32),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.node.remove(decoder)
    signed = _branch("signed", [*_signed(_TOKENS), *_signed(_ZERO)], tiles, f"{_TOKENS}_signed", f"{_ZERO}_signed")
    unsigned = _branch("unsigned", [], tiles, _TOKENS, _ZERO)
    graph.node.extend(
        [
            helper.make_node("Split", [_stored_rows(graph, matrix), "rows_parts"], tiles, axis=0),  # at opening
            helper.make_node("DynamicQuantizeLinear", [hidden], ["rows_bytes", "rows_step", _ZERO]),
            helper.make_node("Transpose", ["rows_bytes"], [_TOKENS], perm=[0, 2, 1]),
            *_try_product(),
            helper.make_node("If", ["rows_is_exact"], ["rows_integers"], then_branch=signed, else_branch=unsigned),
            helper.make_node("Cast", ["rows_integers"], ["rows_floats"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["rows_step", scale], ["rows_scale"]),
            helper.make_node("Mul", ["rows_floats", "rows_scale"], ["rows_scaled"]),
            *([helper.make_node("Add", ["rows_scaled", bias], ["rows_biased"])] if bias else []),
            helper.make_node(
                "Unsqueeze", ["rows_biased" if bias else "rows_scaled", "rows_first_axis"], [LARGEST_LOGITS]
            ),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(LARGEST_LOGITS, TensorProto.FLOAT, [1, 1, size]))
    remove_unused(graph)


def _try_product() -> list[onnx.NodeProto]:
    """Nodes that multiply the largest bytes, and compare the product with the exact one.

    One operand depends on the text: onnxruntime's option against saturation makes products of constants exact, and
    would hide what other products do.
    """
    return [
        helper.make_node("Cast", [_ZERO], ["rows_any"], to=TensorProto.INT32),
        helper.make_node("Clip", ["rows_any", "rows_largest_signed", "rows_largest_signed"], ["rows_always"]),
        helper.make_node("Cast", ["rows_always"], ["rows_always_signed"], to=TensorProto.INT8),
        helper.make_node("Expand", ["rows_always_signed", "rows_tried_shape"], ["rows_tried"]),
        helper.make_node("MatMulInteger", ["rows_largest_byte", "rows_tried"], ["rows_products"]),
        helper.make_node("ReduceMin", ["rows_products"], ["rows_product"], keepdims=0),
        helper.make_node("Equal", ["rows_product", "rows_exact"], ["rows_is_exact"]),
    ]


def _stored_rows(graph: onnx.GraphProto, matrix: str) -> str:
    """Name of the decoder's rows, (V, D) uint8: of what is transposed as the graph is opened, or of the constant."""
    stored = make_unsigned(graph, matrix)
    for node in graph.node:
        if matrix in node.output:
            return str(node.input[0])
    stored.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(stored).T), stored.name))
    return str(stored.name)


def _signed(name: str) -> list[onnx.NodeProto]:
    """Nodes that turn bytes around 128 into signed ones around 0."""
    wide, shifted = f"{name}_wide", f"{name}_shifted"
    return [
        helper.make_node("Cast", [name], [wide], to=TensorProto.INT32),
        helper.make_node("Sub", [wide, "rows_middle"], [shifted]),
        helper.make_node("Cast", [shifted], [f"{name}_signed"], to=TensorProto.INT8),
    ]


def _branch(name: str, nodes: list[onnx.NodeProto], tiles: list[str], tokens: str, zero: str) -> onnx.GraphProto:
    """A graph that multiplies each tile with the tokens (1, D, L), for the largest products (1, V)."""
    for tile in tiles:
        product, largest = f"{name}_{tile}_product", f"{name}_{tile}"
        nodes.append(helper.make_node("MatMulInteger", [tile, tokens, "rows_zero", zero], [product]))
        nodes.append(helper.make_node("ReduceMax", [product, "rows_last_axis"], [largest], keepdims=0))
    output = f"{name}_integers"
    nodes.append(helper.make_node("Concat", [f"{name}_{tile}" for tile in tiles], [output], axis=1))
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(output, TensorProto.INT32, None)])


def _width(graph: onnx.GraphProto, matrix: str) -> int:
    """Columns of a decoder as rows: the first axis of its matrix (D, V)."""
    made = {output: node for node in graph.node for output in node.output}
    axis = 0
    while matrix in made:  # the embedding (V, D), transposed, and maybe only some rows of it
        axis = 1
        matrix = made[matrix].input[0]
    (stored,) = (constant for constant in graph.initializer if constant.name == matrix)
    return int(stored.dims[axis])
