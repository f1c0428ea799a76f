"""Attention that must not be fused, on graphs of one layer that are written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from spladerunner.export.passes import Graph
from spladerunner.export.passes.fuse_attention import FuseAttention

TOKENS, HEADS, SIZE = 11, 2, 4
LONGEST = 600
FOUR = ("batch", "length", "heads", "size")
"""Shape with separate heads, as in BERT's exports."""


def save(path: Path, *, seen: int = LONGEST, scale: float = 1, shape: tuple[str, ...] = FOUR) -> Path:
    """Writes BERT's attention. seen: a token attends to this many tokens on each end. scale: of the embedding."""
    random = np.random.default_rng(0)
    width = HEADS * SIZE
    distance = np.abs(np.subtract.outer(np.arange(LONGEST), np.arange(LONGEST)))
    constants = {
        "embedding": (scale * random.normal(size=(TOKENS, width))).astype(np.float32),
        **{name: (2 * random.normal(size=(width, width))).astype(np.float32) for name in ("q", "k", "v")},
        "decoder": random.normal(size=(width, TOKENS)).astype(np.float32),
        "root": np.array([SIZE**-0.25], dtype=np.float32),
        "window": np.where(distance > seen, -1e9, 0).astype(np.float32)[np.newaxis, np.newaxis],
        "one": np.ones(1, dtype=np.float32),
        "lowest": np.array([-1e9], dtype=np.float32),
        "start": np.array([0, 0]),
        "first": np.array([0]),
        "second": np.array([1]),
        "middle": np.array([1, 2]),
        "last": np.array([2, 3]),
        "heads": np.array([HEADS]),
        "size": np.array([SIZE]),
        "heads_and_size": np.array([HEADS, SIZE]),
        "width": np.array([width]),
    }
    nodes: list[onnx.NodeProto] = []

    def add(operator: str, inputs: str, output: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(operator, inputs.split(), [output], **attributes))

    add("Gather", "embedding input_ids", "hidden")
    add("Shape", "input_ids", "batch_and_length")
    add("Gather", "batch_and_length first", "batch")
    add("Gather", "batch_and_length second", "length")
    add("Concat", " ".join(shape), "apart", axis=0)
    add("Concat", "batch length width", "together", axis=0)
    add("Concat", "length length", "square", axis=0)
    for name in ("q", "k", "v"):
        add("MatMul", f"hidden {name}", f"{name}_flat")
        add("Reshape", f"{name}_flat apart", f"{name}_apart")
        add("Transpose", f"{name}_apart", f"{name}_heads", perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3])
    add("Mul", "q_heads root", "q_scaled")
    add("Mul", "k_heads root", "k_scaled")
    add("MatMul", "q_scaled k_scaled", "scores")
    add("Cast", "attention_mask", "tokens", to=onnx.TensorProto.FLOAT)
    add("Sub", "one tokens", "padding")
    add("Mul", "padding lowest", "padding_hidden")
    add("Unsqueeze", "padding_hidden middle", "padding_mask")
    add("Slice", "window start square last", "window_mask")
    add("Add", "padding_mask window_mask", "mask")
    add("Add", "scores mask", "masked")
    add("Softmax", "masked", "shares", axis=-1)
    add("MatMul", "shares v_heads", "weighed")
    add("Transpose", "weighed", "weighed_tokens", perm=[0, 2, 1, 3])
    add("Reshape", "weighed_tokens together", "attended")
    add("MatMul", "attended decoder", "logits")
    integers, floats = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "layer",
        [
            helper.make_tensor_value_info(name, integers, ["batch", "length"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("logits", floats, ["batch", "length", TOKENS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def is_fused(graph: Path, positions: int = 512) -> bool:
    """Runs the pass; returns whether the graph was fused, and checks that it is otherwise unchanged."""
    result = FuseAttention(positions)(Graph(graph), graph.with_name("after.onnx"))
    inputs = [value.name for value in onnx.load(graph.with_name("after.onnx")).graph.input]
    assert inputs == (["input_ids"] if result.changed else ["input_ids", "attention_mask"])
    return result.changed


def test_attention_whose_mask_hides_padding_is_fused(tmp_path: Path) -> None:
    assert is_fused(save(tmp_path / "before.onnx"))


@pytest.mark.parametrize("seen", [8, 64, 256])
def test_a_wide_window_is_noticed(tmp_path: Path, seen: int) -> None:
    """ModernBERT's reaches 64 tokens in each direction, Longformer's up to 256; shorter texts do not reveal them."""
    assert not is_fused(save(tmp_path / "before.onnx", seen=seen))


def test_no_more_tokens_are_tried_than_the_model_accepts(tmp_path: Path) -> None:
    assert is_fused(save(tmp_path / "before.onnx", seen=40), positions=40)


def test_logits_that_are_not_a_number_agree_with_nothing(tmp_path: Path) -> None:
    assert not is_fused(save(tmp_path / "before.onnx", scale=float("nan")))


def test_a_shape_written_otherwise_is_not_fused(tmp_path: Path) -> None:
    assert not is_fused(save(tmp_path / "before.onnx", shape=("batch_and_length", "heads_and_size")))
