"""Pooling and activation inside the graph, so that the logits (B, L, V) stay on the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
from onnx import helper, numpy_helper

from spladerunner.export.passes.contract import Graph, Pass, UnmetError, logits

_LOGARITHMS = {"relu": 0, "log1p_relu": 1, "log1p_log1p_relu": 2}


@dataclass(frozen=True)
class AppendPooling(Pass):
    """Appends pooling and activation, as spladerunner.inference.pooling defines them.

    pooling, activation: names as in a manifest.
    Requires: a graph from input_ids and attention_mask to logits.
    Ensures: the same inputs, and weights (B, V) as the only output.
    """

    name: ClassVar[str] = "append pooling"
    pooling: str
    activation: str

    def requires(self, model: onnx.ModelProto) -> None:
        """Checks for logits and for the mask of padding."""
        logits(model)
        if all(value.name != "attention_mask" for value in model.graph.input):
            raise UnmetError("the input attention_mask, but there is none")

    def call(self, graph: Graph, target: Path) -> str:
        """Writes the graph with the operators appended."""
        _append(graph.model.graph, logits(graph.model), self.pooling, self.activation)
        onnx.save(graph.model, target)
        return ""

    def ensures(self, model: onnx.ModelProto) -> None:
        """Checks the output and the graph's consistency."""
        shapes = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.output}
        if shapes != {"weights": 2}:
            raise UnmetError(f"the output weights (B, V), but there are outputs of {shapes} dimensions")
        onnx.checker.check_model(model)


def _append(graph: onnx.GraphProto, output: onnx.ValueInfoProto, pooling: str, activation: str) -> None:
    batch, _, vocabulary = output.type.tensor_type.shape.dim
    constants = {"pool_one": np.array(1, dtype=np.float32), "pool_axes": np.array([1]), "pool_last": np.array([-1])}
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["pool_mask_flat"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["pool_mask_flat", "pool_last"], ["pool_mask"]),
        # Activations of negative logits are zero, so padding may be zero before the maximum.
        helper.make_node("Relu", [output.name], ["pool_positive"]),
        helper.make_node("Mul", ["pool_positive", "pool_mask"], ["pool_unmasked"]),
    ]
    value = "pool_unmasked"
    if pooling == "max":
        nodes.append(helper.make_node("ReduceMax", [value, "pool_axes"], ["pool_largest"], keepdims=0))
        value = "pool_largest"
    for count in range(_LOGARITHMS[activation]):
        nodes += [
            helper.make_node("Add", [value, "pool_one"], [f"pool_above_{count}"]),
            helper.make_node("Log", [f"pool_above_{count}"], [f"pool_log_{count}"]),
        ]
        value = f"pool_log_{count}"
    if pooling == "sum":
        nodes.append(helper.make_node("ReduceSum", [value, "pool_axes"], ["pool_total"], keepdims=0))
        value = "pool_total"
    nodes.append(helper.make_node("Identity", [value], ["weights"]))
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    sizes = [axis.dim_param or axis.dim_value for axis in (batch, vocabulary)]
    graph.output.remove(output)
    graph.output.append(helper.make_tensor_value_info("weights", onnx.TensorProto.FLOAT, sizes))
