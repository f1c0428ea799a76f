"""The token embedding in int8, in one table with the decoder where the two are tied.

A masked language model whose decoder is tied to its embedding has one table of numbers, and the export writes it
twice: as float32 rows to look up, and as the int8 matrix of the last product. Stored as int8 rows alone, it serves
both: a row that is looked up is scaled by the scale of its token, and the product takes the rows transposed, which
onnxruntime does once, as it opens the graph. An embedding that is not tied becomes an int8 table of its own, with a
scale for each row.

Requires a graph quantized by quantize.py, its products fused by optimize.py, that looks its embedding up by
input_ids. Ensures that what is looked up is at most half a step of int8 away from what it was.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from spladerunner.errors import CheckpointError

_STEPS = 127
_HALF_A_STEP = 0.501
"""With room for the rounding of the scale itself."""

_SCALES = {"DynamicQuantizeMatMul": 2, "MatMulIntegerToFloat": 3}
"""Which input of a product, as onnxruntime fuses them, is the scale of its matrix."""


def quantize_embedding(graph: Path, quantized: Path) -> bool:
    """Writes `quantized`; says whether the embedding was tied to the decoder, and so shares its table."""
    model = onnx.load(graph)
    tied = _quantize(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, quantized)
    return tied


def _quantize(graph: onnx.GraphProto) -> bool:
    constants = {constant.name: constant for constant in graph.initializer}
    lookups = [node for node in graph.node if node.op_type == "Gather" and node.input[1] == "input_ids"]
    if len(lookups) != 1 or lookups[0].input[0] not in constants:
        raise CheckpointError(f"The graph looks up {len(lookups)} tables by input_ids, where one is the embedding.")
    (lookup,) = lookups
    embedding = lookup.output[0]
    rows, scaled = f"{embedding}_rows", f"{embedding}_scales"
    table = numpy_helper.to_array(constants[lookup.input[0]])
    int8_table = f"{embedding}_table"
    decoder = _tied_decoder(graph, constants, table)
    if decoder:
        matrix, scale = decoder
        int8 = numpy_helper.to_array(constants[matrix]).T
        by_row = len(constants[scale].dims) == 1
        graph.initializer.remove(constants[matrix])
        graph.node.insert(0, helper.make_node("Transpose", [int8_table], [matrix], perm=[1, 0]))
    else:
        steps = np.maximum(np.abs(table).max(axis=1), np.finfo(np.float32).tiny) / _STEPS
        scale, by_row = f"{embedding}_steps", True
        int8 = np.round(table / steps[:, np.newaxis]).astype(np.int8)
        graph.initializer.append(numpy_helper.from_array(steps.astype(np.float32), scale))
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(int8), int8_table))
    nodes = [helper.make_node("Gather", [int8_table, "input_ids"], [rows])]
    nodes.append(helper.make_node("Cast", [rows], [f"{embedding}_floats"], to=onnx.TensorProto.FLOAT))
    if by_row:
        nodes += [
            helper.make_node("Gather", [scale, "input_ids"], [f"{embedding}_row_scales"]),
            helper.make_node("Unsqueeze", [f"{embedding}_row_scales", f"{embedding}_last_axis"], [scaled]),
        ]
        graph.initializer.append(numpy_helper.from_array(np.array([-1], dtype=np.int64), f"{embedding}_last_axis"))
    nodes.append(helper.make_node("Mul", [f"{embedding}_floats", scaled if by_row else scale], [embedding]))

    graph.initializer.remove(constants[lookup.input[0]])
    position = list(graph.node).index(lookup)
    graph.node.remove(lookup)
    for offset, node in enumerate(nodes):
        graph.node.insert(position + offset, node)
    return decoder is not None


def _tied_decoder(
    graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto], table: NDArray[np.float32]
) -> tuple[str, str] | None:
    """The names of the int8 matrix that is the table transposed, and of its scale."""
    for node in graph.node:
        matrix = constants.get(node.input[1]) if node.op_type in _SCALES else None
        if matrix is None or tuple(matrix.dims) != table.shape[::-1]:
            continue
        scale = node.input[_SCALES[node.op_type]]
        steps = np.broadcast_to(numpy_helper.to_array(constants[scale]), table.shape[:1])[:, np.newaxis]
        if np.all(np.abs(numpy_helper.to_array(matrix).T * steps - table) <= _HALF_A_STEP * steps):
            return matrix.name, scale
    return None
