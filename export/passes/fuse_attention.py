"""Attention as one operator, without a mask: a text that runs alone has no padding to mask.

Requires a float32 graph. Where its attention is that of BERT, ensures a graph without the input attention_mask that
gives the same logits for unpadded texts; any other graph is left as it is, as those whose mask does more than hide
padding (ModernBERT's hides all but a window).
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_LENGTHS = (2, 3, 17, 60, 512)
"""Tokens in the texts that both graphs are compared on, as far as the model takes so many.

The longest shows a mask that hides all but a window, which shorter texts lie within.
"""

_TOLERANCE = 1e-4
"""The largest difference of logits, in units of the largest logit: that of other sums of the same numbers."""


def fuse_attention(graph: Path, fused: Path, vocabulary_size: int, max_length: int) -> bool:
    """Writes `fused`, and says whether it differs from `graph`. max_length: the most tokens that the model takes."""
    model = onnx.load(graph)
    changed = _fuse(model.graph)
    onnx.save(model, fused)
    if changed and not _difference(graph, fused, vocabulary_size, max_length) <= _TOLERANCE:  # nor where it is NaN
        changed = False
    if not changed:
        onnx.save(onnx.load(graph), fused)
    return changed


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
            # (query · key + mask), softmax, · value, with the heads taken apart before and put together after
            masked = _made(made, softmax.input[0], "Add")
            scores = _made(made, masked.input[0], "MatMul")
            query, key = (
                _made(made, _made(made, _made(made, side, "Mul").input[0], "Transpose").input[0], "Reshape")
                for side in scores.input
            )
            (weighed,) = used[softmax.output[0]]
            value = _made(made, _made(made, weighed.input[1], "Transpose").input[0], "Reshape")
            (transposed,) = used[weighed.output[0]]
            (together,) = used[transposed.output[0]]
            heads = _heads(made, constants, query)
        except (LookupError, ValueError):
            return False
        attention = helper.make_node(
            "MultiHeadAttention",
            [query.input[0], key.input[0], value.input[0]],
            list(together.output),
            domain="com.microsoft",
            num_heads=heads,
        )
        fusions.append((together, attention))
    for together, attention in fusions:
        at = list(graph.node).index(together)
        graph.node.remove(together)
        graph.node.insert(at, attention)
    _remove_unused(graph)
    return bool(fusions) and all(given.name != "attention_mask" for given in graph.input)


def _made(made: dict[str, onnx.NodeProto], value: str, operator: str) -> onnx.NodeProto:
    node = made[value]
    if node.op_type != operator:
        raise ValueError(f"{value} is made by {node.op_type}")
    return node


def _heads(made: dict[str, onnx.NodeProto], constants: dict[str, NDArray[np.generic]], query: onnx.NodeProto) -> int:
    """How many heads the query is reshaped to: the third number of its shape."""
    parts = _made(made, query.input[1], "Concat").input
    return int(constants[parts[2]].item())


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Removes nodes, constants and inputs that no output depends on, and puts the nodes into the order of their use."""
    made = {output: node for node in graph.node for output in node.output}
    needed: list[onnx.NodeProto] = []
    seen: set[str] = set()
    pending = [(output.name, False) for output in graph.output]
    while pending:
        value, ready = pending.pop()
        node = made.get(value)
        if ready and node is not None:
            needed.append(node)
        elif value not in seen:
            seen.add(value)
            if node is not None:
                seen.update(node.output)
                pending.append((value, True))
                pending += [(given, False) for given in node.input]
    for group in (graph.initializer, graph.input):
        kept = [each for each in group if each.name in seen]
        del group[:]
        group.extend(kept)
    del graph.value_info[:], graph.node[:]
    graph.node.extend(needed)


def _difference(before: Path, after: Path, vocabulary_size: int, max_length: int) -> float:
    """The largest difference of logits, over texts of tokens at random, in units of the largest logit."""
    sessions = [_open(path) for path in (before, after)]
    random = np.random.default_rng(0)
    differences = []
    for length in sorted({min(length, max_length) for length in _LENGTHS}):
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
