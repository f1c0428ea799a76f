"""The token embedding in int8, a scale for each row, in a graph without a decoder.

Nothing else uses the matrix, so it comes first: of XLM-RoBERTa-large, it is 1.0 of 2.3 GB in float32, and a graph with
its weights inside has 2 GB at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from spladerunner.export.passes.contract import Graph, Pass, UnmetError

_STEPS = 127


@dataclass(frozen=True)
class QuantizeEmbedding(Pass):
    """Stores the embedding in int8, and all weights in the graph.

    Requires: one embedding, looked up by input_ids.
    Ensures: the embedding is int8; what is looked up differs by at most half a step from before. Weights are inside.
    """

    name: ClassVar[str] = "quantize embedding"
    reads_external_data: ClassVar[bool] = True

    def requires(self, model: onnx.ModelProto) -> None:
        """Checks for one embedding."""
        check_one_embedding(model.graph)

    def call(self, graph: Graph, target: Path) -> str:
        """Writes the graph with an int8 embedding."""
        model = graph.model
        load_external_data_for_model(model, str(graph.path.parent))
        (lookup,), (embedding,) = lookups(model.graph), embeddings(model.graph)
        int8, steps = quantize_rows(numpy_helper.to_array(embedding))
        scale = f"{lookup.output[0]}_steps"
        model.graph.initializer.remove(embedding)
        model.graph.initializer.append(numpy_helper.from_array(steps, scale))
        look_up_int8(model.graph, lookup, int8, scale, by_row=True)
        onnx.save(model, target)
        return ""

    def ensures(self, model: onnx.ModelProto) -> None:
        """Checks the embedding's type, where weights are, and the graph's consistency."""
        check_int8_embedding(model.graph)
        if any(map(uses_external_data, model.graph.initializer)):
            raise UnmetError("weights inside the file, but they are external data")
        onnx.checker.check_model(model)


def check_one_embedding(graph: onnx.GraphProto) -> None:
    """Raises UnmetError unless there is one embedding, looked up once by input_ids."""
    looked_up, constants = lookups(graph), embeddings(graph)
    if len(looked_up) != 1 or len(constants) != 1:
        raise UnmetError(
            f"one embedding looked up by input_ids, but there are {len(looked_up)} lookups of {len(constants)}"
        )


def check_int8_embedding(graph: onnx.GraphProto) -> None:
    """Raises UnmetError unless there is one embedding, in int8."""
    found = [constant.data_type for constant in embeddings(graph) if len(constant.dims) == 2]
    if found != [TensorProto.INT8]:
        raise UnmetError(f"one int8 embedding, but there are embeddings of types {found}")


def lookups(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that look up input_ids."""
    return [node for node in graph.node if node.op_type == "Gather" and node.input[1] == "input_ids"]


def embeddings(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """The constants that are looked up by input_ids."""
    constants = {constant.name: constant for constant in graph.initializer}
    return [constants[node.input[0]] for node in lookups(graph) if node.input[0] in constants]


def quantize_rows(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The rows of a matrix in int8, and the step of each row.

    Examples:
        >>> int8, steps = quantize_rows(np.array([[1.27, -0.5], [0.0, 0.0]], np.float32))
        >>> int8.tolist(), round(steps[0].item(), 4)
        ([[127, -50], [0, 0]], 0.01)
    """
    steps = np.maximum(np.abs(weights).max(axis=1), np.finfo(np.float32).tiny) / _STEPS
    return np.round(weights / steps[:, np.newaxis]).astype(np.int8), steps.astype(np.float32)


def look_up_int8(
    graph: onnx.GraphProto, lookup: onnx.NodeProto, int8: NDArray[np.int8], scale: str, *, by_row: bool
) -> None:
    """Replaces a lookup by one of int8 rows, multiplied by the constant `scale`, of each row if by_row."""
    embedding = lookup.output[0]
    matrix, rows, scaled = f"{embedding}_table", f"{embedding}_rows", f"{embedding}_scales"
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(int8), matrix))
    nodes = [helper.make_node("Gather", [matrix, "input_ids"], [rows])]
    nodes.append(helper.make_node("Cast", [rows], [f"{embedding}_floats"], to=TensorProto.FLOAT))
    if by_row:
        nodes += [
            helper.make_node("Gather", [scale, "input_ids"], [f"{embedding}_row_scales"]),
            helper.make_node("Unsqueeze", [f"{embedding}_row_scales", f"{embedding}_last_axis"], [scaled]),
        ]
        graph.initializer.append(numpy_helper.from_array(np.array([-1], dtype=np.int64), f"{embedding}_last_axis"))
    nodes.append(helper.make_node("Mul", [f"{embedding}_floats", scaled if by_row else scale], [embedding]))
    position = list(graph.node).index(lookup)
    graph.node.remove(lookup)
    for offset, node in enumerate(nodes):
        graph.node.insert(position + offset, node)
