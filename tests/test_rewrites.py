"""Graphs before and after the rewrites for CUDA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from spladerunner.export.passes.append_pooling import pool_inside
from spladerunner.export.passes.float16 import halve
from spladerunner.inference.pooling import ACTIVATIONS, max_pool, sum_pool
from tests.small_model import TOKENS, SmallGraph

IDS = np.array([[2, 7, 8, 9, 3, 0, 0], [2, 9, 12, 14, 15, 16, 3]], dtype=np.int64)
MASK = np.array([[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]], dtype=np.int64)


def outputs(graph: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"input_ids": IDS, "attention_mask": MASK})[0]
    return found


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("pooling", ["max", "sum"])
def test_pooling_inside_is_pooling_outside(tmp_path: Path, pooling: str, activation: str) -> None:
    before = SmallGraph().save(tmp_path / "before.onnx")
    after = outputs(pool_inside(before, tmp_path / "after.onnx", pooling, activation))
    logits = outputs(before)
    if pooling == "sum":
        expected = sum_pool(logits, MASK, ACTIVATIONS[activation])
    else:
        expected = ACTIVATIONS[activation](np.maximum(max_pool(logits, MASK), 0))
    assert after.shape == (2, len(TOKENS))
    np.testing.assert_allclose(after, expected, rtol=0, atol=1e-4)


def test_halving_keeps_the_type_of_the_output_and_nearly_its_value(tmp_path: Path) -> None:
    before = SmallGraph().save(tmp_path / "before.onnx")
    after = halve(before, tmp_path / "after.onnx")
    assert outputs(after).dtype == np.float32
    np.testing.assert_allclose(outputs(after), outputs(before), rtol=0.01, atol=0.05)
    kinds = {constant.data_type for constant in onnx.load(after).graph.initializer if len(constant.dims) == 2}
    assert kinds == {onnx.TensorProto.FLOAT16}
