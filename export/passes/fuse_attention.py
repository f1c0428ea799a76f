"""Attention as one operator, without a mask: a text that runs alone has no padding to mask."""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from spladerunner.export.passes.contract import Graph, Pass, UnmetError, check_float32, logits, operators
from spladerunner.export.passes.unused import remove_unused

_LENGTHS = (2, 3, 17, 60, 512)
"""Tokens in the texts that both graphs are compared on, as far as the model accepts that many.

The longest reveals a mask that hides all but a window, within which shorter texts lie.
"""

_TOLERANCE = 1e-4
"""The largest difference of logits, in units of the largest logit, that another order of summation may cause."""


@dataclass(frozen=True)
class FuseAttention(Pass):
    """Replaces the operators of BERT's attention by MultiHeadAttention, and removes the input attention_mask.

    positions: the most tokens that the model accepts.
    Requires: a float32 graph from input_ids to logits.
    Ensures: the same logits for unpadded texts. A graph whose attention differs from BERT's stays unchanged, as does
    one whose mask hides more than padding (ModernBERT's hides all but a window).
    """

    name: ClassVar[str] = "fuse attention"
    positions: int

    def requires(self, model: onnx.ModelProto) -> None:
        """Checks for logits and float32 weights."""
        logits(model)
        check_float32(model)

    def call(self, graph: Graph, target: Path) -> str:
        """Writes the fused graph, or a copy if it cannot be fused or the logits differ."""
        if _fuse(graph.model.graph):
            vocabulary_size = logits(graph.model).type.tensor_type.shape.dim[2].dim_value
            onnx.save(graph.model, target)
            if _difference(graph.path, target, vocabulary_size, self.positions) <= _TOLERANCE:  # false for NaN
                return ""
        shutil.copyfile(graph.path, target)
        return "the attention is not BERT's"

    def ensures(self, model: onnx.ModelProto) -> None:
        """Checks that fused attention comes without a mask."""
        logits(model)
        masked = any(value.name == "attention_mask" for value in model.graph.input)
        if masked and "MultiHeadAttention" in operators(model):
            raise UnmetError("no mask beside fused attention, but the graph takes attention_mask")


def _fuse(graph: onnx.GraphProto) -> bool:
    made = {output: node for node in graph.node for output in node.output}
    used: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for value in node.input:
            used[value].append(node)
    constants = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer if constant.dims}
    fusions = []
    for softmax in [node for node in graph.node if node.op_type == "Softmax"]:
        try:
            # softmax(query · key + mask) · value, with the heads split before and joined after
            masked = _made(made, softmax.input[0], "Add")
            scores = _made(made, masked.input[0], "MatMul")
            query, key = (
                _made(made, _made(made, _made(made, factor, "Mul").input[0], "Transpose").input[0], "Reshape")
                for factor in scores.input
            )
            (weighted,) = used[softmax.output[0]]
            value = _made(made, _made(made, weighted.input[1], "Transpose").input[0], "Reshape")
            (transposed,) = used[weighted.output[0]]
            (joined,) = used[transposed.output[0]]
            heads = _heads(made, constants, query)
        except (LookupError, ValueError):
            return False
        attention = helper.make_node(
            "MultiHeadAttention",
            [query.input[0], key.input[0], value.input[0]],
            list(joined.output),
            domain="com.microsoft",
            num_heads=heads,
        )
        fusions.append((joined, attention))
    for joined, attention in fusions:
        at = list(graph.node).index(joined)
        graph.node.remove(joined)
        graph.node.insert(at, attention)
    remove_unused(graph)
    return bool(fusions) and all(given.name != "attention_mask" for given in graph.input)


def _made(made: dict[str, onnx.NodeProto], value: str, operator: str) -> onnx.NodeProto:
    node = made[value]
    if node.op_type != operator:
        raise ValueError(f"{value} is the output of {node.op_type}")
    return node


def _heads(made: dict[str, onnx.NodeProto], constants: dict[str, NDArray[np.generic]], query: onnx.NodeProto) -> int:
    """Number of heads: the third number of the shape that the query is reshaped to."""
    parts = _made(made, query.input[1], "Concat").input
    return int(constants[parts[2]].item())


def _difference(before: Path, after: Path, vocabulary_size: int, positions: int) -> float:
    """The largest difference of logits, over texts of random tokens, in units of the largest logit."""
    sessions = [_open(path) for path in (before, after)]
    random = np.random.default_rng(0)
    differences = []
    for length in sorted({min(length, positions) for length in _LENGTHS}):
        ids = random.integers(0, vocabulary_size, (1, length))
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        expected, found = (
            session.run(None, {given.name: feeds[given.name] for given in session.get_inputs()})[0]
            for session in sessions
        )
        differences.append(np.abs(found - expected).max() / np.abs(expected).max())
    return float(np.max(differences))


def _open(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
