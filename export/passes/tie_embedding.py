"""The token embedding in int8, in one matrix with the decoder if the two are tied.

A masked language model whose decoder is tied to its embedding has one matrix, and an exported graph has it twice: as
float32 rows to look up, and as the int8 matrix of the last product. Stored once, as int8 rows, it serves both: a row
that is looked up is multiplied by the scale of its token, and the product takes the rows transposed, which onnxruntime
does once, when it opens the graph. An embedding that is not tied becomes an int8 matrix of its own, with a scale for
each row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from spladerunner.export.passes.contract import Graph, Pass, UnmetError, operators
from spladerunner.export.passes.optimize import FUSED_PRODUCTS
from spladerunner.export.passes.quantize_embedding import (
    check_int8_embedding,
    check_one_embedding,
    look_up_int8,
    lookups,
    quantize_rows,
)

_HALF_A_STEP = 0.501
"""Half a step of int8, with room for the rounding of the scale itself."""

_SCALES = dict(zip(FUSED_PRODUCTS, (2, 3), strict=True))
"""The position among a fused product's inputs of the scale of its matrix."""


@dataclass(frozen=True)
class TieEmbedding(Pass):
    """Stores the embedding in int8, shared with the decoder if tied.

    Requires: fused int8 products, and one embedding, looked up by input_ids.
    Ensures: the embedding is int8; what is looked up differs by at most half a step from before.
    """

    name: ClassVar[str] = "tie embedding"

    def requires(self, model: onnx.ModelProto) -> None:
        """Checks for fused int8 products and for one embedding."""
        if not operators(model) & set(FUSED_PRODUCTS):
            raise UnmetError(f"fused int8 products, but there is none of {FUSED_PRODUCTS}")
        check_one_embedding(model.graph)

    def call(self, graph: Graph, target: Path) -> str:
        """Writes the graph with an int8 embedding."""
        tied = _quantize(graph.model.graph)
        onnx.save(graph.model, target)
        return "" if tied else "the embedding is not tied to the decoder: two int8 matrices"

    def ensures(self, model: onnx.ModelProto) -> None:
        """Checks the embedding's type and the graph's consistency."""
        check_int8_embedding(model.graph)
        onnx.checker.check_model(model)


def _quantize(graph: onnx.GraphProto) -> bool:
    """Replaces the embedding in place; returns whether it was tied."""
    constants = {constant.name: constant for constant in graph.initializer}
    (lookup,) = lookups(graph)
    weights = numpy_helper.to_array(constants[lookup.input[0]])
    decoder = _tied_decoder(graph, constants, weights)
    if decoder:
        matrix, scale = decoder
        int8 = numpy_helper.to_array(constants[matrix]).T
        by_row = len(constants[scale].dims) == 1
        graph.initializer.remove(constants[matrix])
        graph.node.insert(0, helper.make_node("Transpose", [f"{lookup.output[0]}_table"], [matrix], perm=[1, 0]))
    else:
        scale, by_row = f"{lookup.output[0]}_steps", True
        int8, steps = quantize_rows(weights)
        graph.initializer.append(numpy_helper.from_array(steps, scale))
    graph.initializer.remove(constants[lookup.input[0]])
    look_up_int8(graph, lookup, int8, scale, by_row=by_row)
    return decoder is not None


def _tied_decoder(
    graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto], weights: NDArray[np.float32]
) -> tuple[str, str] | None:
    """Names of the int8 matrix that is the embedding transposed, and of its scale."""
    for node in graph.node:
        matrix = constants.get(node.input[1]) if node.op_type in _SCALES else None
        if matrix is None or tuple(matrix.dims) != weights.shape[::-1]:
            continue
        scale = node.input[_SCALES[node.op_type]]
        steps = np.broadcast_to(numpy_helper.to_array(constants[scale]), weights.shape[:1])[:, np.newaxis]
        if np.all(np.abs(numpy_helper.to_array(matrix).T * steps - weights) <= _HALF_A_STEP * steps):
            return matrix.name, scale
    return None
