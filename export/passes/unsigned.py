"""Decoder matrices as unsigned bytes."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

MIDDLE = 128
"""The zero of an unsigned matrix."""


def make_unsigned(graph: onnx.GraphProto, matrix: str) -> onnx.TensorProto:
    """Makes the constant behind a decoder's matrix uint8, around 128, and returns it.

    Where the matrix is the embedding too, what is looked up has the 128 taken off again, exactly.
    """
    constants = {constant.name: constant for constant in graph.initializer}
    made = {output: node for node in graph.node for output in node.output}
    while matrix in made:  # it is the embedding, transposed, and maybe only some rows of it
        matrix = made[matrix].input[0]
    stored = constants[matrix]
    signed = numpy_helper.to_array(stored)
    stored.CopyFrom(numpy_helper.from_array((signed.astype(np.int16) + MIDDLE).astype(np.uint8), stored.name))
    for lookup in [
        node for node in graph.node if node.op_type == "Gather" and [*node.input] == [stored.name, "input_ids"]
    ]:
        middle = f"{stored.name}_middle"
        graph.initializer.append(numpy_helper.from_array(np.array(MIDDLE, dtype=np.float32), middle))
        (cast,) = (node for node in graph.node if lookup.output[0] in node.input)
        floats, shifted = cast.output[0], f"{cast.output[0]}_shifted"
        cast.output[0] = shifted
        at = list(graph.node).index(cast) + 1
        graph.node.insert(at, helper.make_node("Sub", [shifted, middle], [floats]))
    return stored
