"""One int8 table for the token embedding and the decoder.

A masked language model whose decoder is tied to its embedding has one table of numbers, and the export writes it
twice: as float32 rows to look up, and as the int8 matrix of the last product. Looking rows up as columns of the
int8 matrix, and scaling each by the scale of its column, makes the float32 table unnecessary.

Requires a graph quantized by quantize.py. Where its embedding is tied to its decoder, ensures that the embedding is
looked up in the decoder's matrix, at most half a step of int8 away from what it was; leaves other graphs as they are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper


def share_table(graph: Path, shared: Path) -> bool:
    """Writes `shared`; says whether the table was tied and so could be shared."""
    model = onnx.load(graph)
    tied = _share(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, shared)
    return tied


def _share(graph: onnx.GraphProto) -> bool:
    constants = {constant.name: constant for constant in graph.initializer}
    lookups = [node for node in graph.node if node.op_type == "Gather" and node.input[1] == "input_ids"]
    products = [node for node in graph.node if node.op_type == "MatMulInteger"]
    if len(lookups) != 1 or not products:
        return False
    lookup, decoder = lookups[0], products[-1]
    table, matrix = constants[lookup.input[0]], constants[decoder.input[1]]
    # quantize_dynamic names a matrix's parts after the matrix.
    scale = constants[matrix.name.removesuffix("_quantized") + "_scale"]
    if tuple(matrix.dims) != tuple(reversed(table.dims)):
        return False
    steps = numpy_helper.to_array(scale)
    restored = numpy_helper.to_array(matrix).T * steps[:, np.newaxis]
    if np.any(np.abs(restored - numpy_helper.to_array(table)) > 0.501 * steps[:, np.newaxis]):
        return False

    embedding = lookup.output[0]
    part = {name: f"{embedding}_{name}" for name in ("columns", "rows", "floats", "scales", "scale_column", "axis")}
    nodes = [
        helper.make_node("Gather", [matrix.name, "input_ids"], [part["columns"]], axis=1),
        helper.make_node("Transpose", [part["columns"]], [part["rows"]], perm=[1, 2, 0]),
        helper.make_node("Cast", [part["rows"]], [part["floats"]], to=onnx.TensorProto.FLOAT),
        helper.make_node("Gather", [scale.name, "input_ids"], [part["scales"]]),
        helper.make_node("Unsqueeze", [part["scales"], part["axis"]], [part["scale_column"]]),
        helper.make_node("Mul", [part["floats"], part["scale_column"]], [embedding]),
    ]
    graph.initializer.append(numpy_helper.from_array(np.array([-1], dtype=np.int64), part["axis"]))
    graph.initializer.remove(table)
    position = list(graph.node).index(lookup)
    graph.node.remove(lookup)
    for offset, node in enumerate(nodes):
        graph.node.insert(position + offset, node)
    return True
