"""Attention as one operator, without a mask: a text that runs alone has no padding to mask."""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from spladerunner.export.passes.contract import Graph, Pass, UnmetError, check_float32, logits, operators
from spladerunner.export.passes.quantize_embedding import embeddings
from spladerunner.export.passes.unused import remove_unused

_LENGTHS = (2, 3, 17, 60, 512)
"""Tokens in the texts that both graphs are compared on, as far as the model accepts that many.

The longest reveals a mask that hides all but a window, within which shorter texts lie.
"""

_TOLERANCE = 1e-4
"""The largest difference of logits, in units of the largest logit, that another order of summation may cause."""


@dataclass(frozen=True)
class FuseAttention(Pass):
    """Replaces the operators of attention by MultiHeadAttention, and removes the input attention_mask.

    positions: the most tokens that the model accepts.
    Requires: a float32 graph from input_ids to logits.
    Ensures: the same logits for unpadded texts. Attention may have rotary positions, as GTE's. Other attention than
    BERT's and GTE's stays unchanged, as does one whose mask hides more than padding (ModernBERT's hides all but a
    window).
    """

    name: ClassVar[str] = "fuse attention"
    positions: int

    def requires(self, model: onnx.ModelProto) -> None:
        """Checks for logits and float32 weights."""
        logits(model)
        check_float32(model)

    def call(self, graph: Graph, target: Path) -> str:
        """Writes the fused graph, or a copy if it cannot be fused or the logits differ."""
        if _fuse(graph.model):
            # A token head has one logit at a position, so the embedding tells how many tokens there are.
            rows = [constant.dims[0] for constant in embeddings(graph.model.graph)]
            vocabulary_size = max(rows, default=logits(graph.model).type.tensor_type.shape.dim[2].dim_value)
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


_JOINED = "joined_heads"
"""Name of the shape (batch, length, width)."""

Constants = dict[str, NDArray[np.generic]]


def _fuse(model: onnx.ModelProto) -> bool:
    graph = model.graph
    made = {output: node for node in graph.node for output in node.output}
    used: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for value in node.input:
            used[value].append(node)
    constants = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
    fusions = []
    for softmax in [node for node in graph.node if node.op_type == "Softmax"]:
        try:
            # softmax(query · key + mask) · value, with the heads split before and joined after
            masked = _made(made, softmax.input[0], "Add")
            scores = _made(made, _unscaled(made, constants, masked.input[0]), "MatMul")
            query, key = (_heads_apart(made, constants, factor) for factor in scores.input)
            (weighted,) = used[softmax.output[0]]
            value = _made(made, _made(made, weighted.input[1], "Transpose").input[0], "Reshape")
            (transposed,) = used[weighted.output[0]]
            (joined,) = used[transposed.output[0]]
            heads = _heads(made, constants, value)
        except (LookupError, ValueError):
            return False
        fusions.append((joined, query, key, value.input[0], heads))
    for joined, query, key, flat, heads in fusions:
        nodes = [node for each in (query, key) for node in each.join()]
        attention = helper.make_node(
            "MultiHeadAttention",
            [query.flat, key.flat, flat],
            list(joined.output),
            domain="com.microsoft",
            num_heads=heads,
        )
        at = list(graph.node).index(joined)
        graph.node.remove(joined)
        for node in reversed([*nodes, attention]):
            graph.node.insert(at, node)
        if nodes and all(constant.name != _JOINED for constant in graph.initializer):
            graph.initializer.append(numpy_helper.from_array(np.array([0, 0, -1]), _JOINED))
    if fusions and all(opset.domain != "com.microsoft" for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    remove_unused(graph)
    return bool(fusions) and all(given.name != "attention_mask" for given in graph.input)


class _Operand(NamedTuple):
    """Queries or keys before they are transposed for their product.

    value: (batch, length, width), or (batch, length, heads, size) if joined is false, or (batch, heads, length, size)
    if tokens_first is false too.
    """

    value: str
    joined: bool = False
    tokens_first: bool = True

    @property
    def flat(self) -> str:
        """The name of the value (batch, length, width)."""
        return self.value if self.joined else f"{self.value}_joined"

    def join(self) -> list[onnx.NodeProto]:
        """Operators that join the heads."""
        if self.joined:
            return []
        if self.tokens_first:
            return [helper.make_node("Reshape", [self.value, _JOINED], [self.flat])]
        tokens = f"{self.value}_tokens"
        return [
            helper.make_node("Transpose", [self.value], [tokens], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [tokens, _JOINED], [self.flat]),
        ]


def _made(made: dict[str, onnx.NodeProto], value: str, operator: str) -> onnx.NodeProto:
    node = made[value]
    if node.op_type != operator:
        raise ValueError(f"{value} is the output of {node.op_type}")
    return node


def _unscaled(made: dict[str, onnx.NodeProto], constants: Constants, value: str) -> str:
    """The value before it is multiplied with, or divided by, something of one number."""
    node = made[value]
    if node.op_type in ("Mul", "Div") and (node.input[1] not in constants or constants[node.input[1]].size == 1):
        return node.input[0]
    return value


def _heads_apart(made: dict[str, onnx.NodeProto], constants: Constants, value: str) -> _Operand:
    """The node that splits the heads, or, with rotary positions, the later one that adds these."""
    value = _unscaled(made, constants, value)
    tokens_first = False
    if made[value].op_type == "Transpose":
        (permuted,) = made[value].attribute
        tokens_first = permuted.ints[1] == 2
        value = made[value].input[0]
    node = made[value]
    if node.op_type == "Reshape" and tokens_first:
        return _Operand(node.input[0], joined=True)
    if node.op_type != "Add":
        raise ValueError(f"{value} is the output of {node.op_type}")
    return _Operand(value, tokens_first=tokens_first)


def _heads(made: dict[str, onnx.NodeProto], constants: Constants, split: onnx.NodeProto) -> int:
    """Number of heads, by the shape (batch, length, heads, size) that values are split to; heads may be -1."""
    _, _, heads, size = (constants.get(part) for part in _made(made, split.input[1], "Concat").input)
    if heads is not None and heads.item() > 0:
        return int(heads.item())
    if size is None:
        raise ValueError("neither the number of heads nor their size is constant")
    return int(_width(made, constants, split.input[0]) // size.item())


def _width(made: dict[str, onnx.NodeProto], constants: Constants, value: str) -> int:
    """The last axis of a projection: that of its bias, or of its matrix."""
    node = made[value]
    while node.op_type == "Add" and not constants.keys() & {*node.input}:
        node = made[node.input[0]]
    found = next(constants[name] for name in node.input if name in constants)
    return int(found.shape[-1])


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
