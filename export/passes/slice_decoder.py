"""The decoder over slices of positions, so that the logits of a long text never exist at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from spladerunner.export.passes.contract import Graph, Pass, UnmetError, int8_decoder, logits
from spladerunner.export.passes.unsigned import MIDDLE, make_unsigned
from spladerunner.inference.session import LARGEST_LOGITS

MOST_BYTES = 1 << 27
"""Of the logits of a text, above which an export slices."""

_FEWEST_POSITIONS = 16

_BYTES, _SCALE, _ZERO = "slices_bytes", "slices_scale", "slices_zero"


@dataclass(frozen=True)
class SliceDecoder(Pass):
    """Multiplies slices of positions with the decoder, and keeps the largest logit of each vocabulary entry.

    The result is bit for bit the maximum over whole logits: hidden states become uint8 with one scale for the whole
    text, as before, integer products are exact, and a maximum does not depend on the order. A scale for each slice
    would take as long and give other logits.

    slice_bytes: of the logits of a slice, unless that is fewer than 16 positions.
    Requires: logits by a fused int8 product, as FuseOperators leaves them, or the largest of them, as DecodeRows does.
    Ensures: the output is largest_logits, (1, 1, V): the largest over the positions of one text.
    """

    name: ClassVar[str] = "slice decoder"
    slice_bytes: int = 1 << 24

    def requires(self, model: onnx.ModelProto) -> None:
        """Checks for the decoder's product, unless the largest logits are the output."""
        if (output := logits(model)).name != LARGEST_LOGITS:
            int8_decoder(model.graph, output.name)

    def call(self, graph: Graph, target: Path) -> str:
        """Writes the graph with its decoder in a loop, or as it is."""
        found, output = graph.model.graph, logits(graph.model)
        if output.name == LARGEST_LOGITS:
            onnx.save(graph.model, target)
            return "not needed: the decoder is rows"
        vocabulary_size = output.type.tensor_type.shape.dim[2].dim_value
        positions = max(self.slice_bytes // (4 * vocabulary_size), _FEWEST_POSITIONS)
        _slice(found, int8_decoder(found, output.name), positions, vocabulary_size)
        output.name = LARGEST_LOGITS
        for axis in output.type.tensor_type.shape.dim[:2]:
            axis.dim_value = 1
        onnx.save(graph.model, target)
        return f"{positions} positions a slice"

    def ensures(self, model: onnx.ModelProto) -> None:
        """Checks the output and the graph's consistency."""
        if (output := logits(model)).name != LARGEST_LOGITS or output.type.tensor_type.shape.dim[1].dim_value != 1:
            raise UnmetError(f"the largest logits (1, 1, V), but the output is {output.name}")
        onnx.checker.check_model(model)


def needs_slices(positions: int, vocabulary_size: int, pooling: str) -> bool:
    """True if the logits of a text of all positions pass MOST_BYTES; sums have no slices, as their order counts.

    Examples:
        >>> needs_slices(512, 30_522, "max"), needs_slices(8192, 30_522, "max"), needs_slices(512, 105_879, "max")
        (False, True, True)
    """
    return pooling == "max" and 4 * positions * vocabulary_size > MOST_BYTES


def _slice(graph: onnx.GraphProto, decoder: onnx.NodeProto, positions: int, width: int) -> None:
    hidden, matrix, scale, *others = decoder.input
    zero, bias = (*others, "", "")[:2]
    # Signed products saturate on x86 processors without VNNI, and onnxruntime's option against that does not reach
    # into a loop.
    make_unsigned(graph, matrix)
    at = list(graph.node).index(decoder)
    graph.node.remove(decoder)
    if not any(zero in node.input for node in graph.node):  # signed weights are symmetric: it is zero for each column
        kept = [constant for constant in graph.initializer if constant.name != zero]
        del graph.initializer[:]
        graph.initializer.extend(kept)
    constants = {
        "slices_axis": np.array([0]),
        "slices_positions": np.array([positions]),
        "slices_round_up": np.array(positions - 1),
        "slices_size": np.array(positions),
        "slices_true": np.array(True),
        "slices_shape": np.array([1, width]),
        "slices_matrix_zero": np.full(width, MIDDLE, dtype=np.uint8),
        "slices_lowest": np.array(-np.inf, dtype=np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["number", "slices_size"], ["start_scalar"]),
            helper.make_node("Unsqueeze", ["start_scalar", "slices_axis"], ["start"]),
            helper.make_node("Add", ["start", "slices_positions"], ["end"]),
            helper.make_node("Slice", [_BYTES, "start", "end", "slices_axis"], ["part"]),
            helper.make_node(
                "MatMulIntegerToFloat",
                ["part", matrix, _SCALE, scale, _ZERO, "slices_matrix_zero", bias],
                ["part_logits"],
                domain="com.microsoft",
            ),
            helper.make_node("ReduceMax", ["part_logits", "slices_axis"], ["part_largest"], keepdims=1),
            helper.make_node("Max", ["before", "part_largest"], ["after"]),
            helper.make_node("Identity", ["again"], ["go_on"]),
        ],
        "slice",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("Squeeze", [hidden, "slices_axis"], ["slices_hidden"]),
        helper.make_node("DynamicQuantizeLinear", ["slices_hidden"], [_BYTES, _SCALE, _ZERO]),
        helper.make_node("Shape", [_BYTES], ["slices_length"], start=0, end=1),
        helper.make_node("Add", ["slices_length", "slices_round_up"], ["slices_rounded"]),
        helper.make_node("Div", ["slices_rounded", "slices_size"], ["slices_counts"]),
        helper.make_node("Squeeze", ["slices_counts"], ["slices_count"]),
        helper.make_node("Expand", ["slices_lowest", "slices_shape"], ["slices_none"]),
        helper.make_node("Loop", ["slices_count", "slices_true", "slices_none"], ["slices_largest"], body=body),
        helper.make_node("Unsqueeze", ["slices_largest", "slices_axis"], [LARGEST_LOGITS]),
    ]
    for node in reversed(nodes):
        graph.node.insert(at, node)
