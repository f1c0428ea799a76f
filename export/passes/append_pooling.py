"""Pooling and activation inside the graph, so that logits of (B, L, V) never leave the device.

Requires a graph from input_ids and attention_mask to logits. Ensures a graph of the same inputs that gives weights
(B, V), as spladerunner.inference.pooling makes them of the logits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

_LOGARITHMS = {"relu": 0, "log1p_relu": 1, "log1p_log1p_relu": 2}


def pool_inside(graph: Path, pooled: Path, pooling: str, activation: str) -> Path:
    """Writes `pooled`, and returns it. pooling, activation: by their names in a manifest."""
    model = onnx.load(graph)
    (logits,) = model.graph.output
    batch, _, vocabulary = logits.type.tensor_type.shape.dim
    constants = {"pool_one": np.array(1, dtype=np.float32), "pool_axes": np.array([1]), "pool_last": np.array([-1])}
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["pool_mask_flat"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["pool_mask_flat", "pool_last"], ["pool_mask"]),
        # Nothing below zero survives the activation, so what is masked may as well be zero.
        helper.make_node("Relu", [logits.name], ["pool_positive"]),
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
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    sizes = [axis.dim_param or axis.dim_value for axis in (batch, vocabulary)]
    model.graph.output.remove(logits)
    model.graph.output.append(helper.make_tensor_value_info("weights", onnx.TensorProto.FLOAT, sizes))
    onnx.checker.check_model(model)
    onnx.save(model, pooled)
    return pooled
