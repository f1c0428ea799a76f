from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from spladerunner import SparseVector
from spladerunner.inference.pooling import ACTIVATIONS, max_pool, sparsify, sparsify_tokens, sum_pool

logits_and_masks = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 9)).flatmap(
    lambda shape: st.tuples(
        arrays.arrays(np.float32, shape, elements=st.floats(-30, 30, width=32)),
        arrays.arrays(np.int64, shape[:2], elements=st.integers(0, 1)),
    )
)

FORMULAS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "log1p_relu": lambda x: np.log(1 + np.maximum(x, 0)),
    "log1p_log1p_relu": lambda x: np.log(1 + np.log(1 + np.maximum(x, 0))),
}
"""As published, in the order of the papers: activated over (B, L, V), masked, then pooled. In float64."""


@pytest.mark.slow
@given(logits_and_masks, st.sampled_from(sorted(FORMULAS)))
def test_agrees_with_the_published_formulas(case: tuple[np.ndarray, np.ndarray], activation: str) -> None:
    logits, mask = case
    activated = FORMULAS[activation](logits.astype(np.float64)) * mask[:, :, None]
    everything = np.ones(logits.shape[2], dtype=bool)
    for row, expected in zip(max_pool(logits, mask), activated.max(axis=1), strict=True):
        found = dense(sparsify(row, everything, ACTIVATIONS[activation]), row.size)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for row, expected in zip(sum_pool(logits, mask, ACTIVATIONS[activation]), activated.sum(axis=1), strict=True):
        np.testing.assert_allclose(dense(sparsify(row, everything, None), row.size), expected, rtol=1e-5, atol=1e-6)


# The published formula gives a logit so small that it adds nothing to 1 no weight.
LOGITS = st.floats(-30, 30, width=32).filter(lambda logit: logit == 0 or abs(logit) > 1e-6)


@given(
    st.lists(st.tuples(st.integers(0, 5), LOGITS), min_size=1),
    st.sampled_from(sorted(FORMULAS)),
    st.sampled_from([np.float16, np.float32]),
)
def test_a_token_weighs_as_its_heaviest_position(
    positions: list[tuple[int, float]], activation: str, kind: type[np.floating]
) -> None:
    """Token by token, as FlagEmbedding's loop over a text has it: special tokens never, others by their maximum."""
    ids, logits = (np.array(column) for column in zip(*positions, strict=True))
    weights: dict[int, float] = {}
    for token, logit in zip(ids.tolist(), logits.astype(kind).astype(np.float64), strict=True):
        weight = float(FORMULAS[activation](logit))
        if token not in (0, 2) and weight > weights.get(token, 0):
            weights[token] = weight
    found = sparsify_tokens(logits.astype(kind), ids, np.array([0, 1, 0, 1, 1, 1], bool), ACTIVATIONS[activation])
    assert found.indices.tolist() == sorted(weights)
    np.testing.assert_allclose(found.values, [weights[token] for token in sorted(weights)], rtol=1e-5)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_token_without_a_number_is_an_error(wrong: float) -> None:
    logits = np.array([1, wrong], dtype=np.float32)
    with pytest.raises(ValueError, match=r"NaN|finite"):
        sparsify_tokens(logits, np.array([1, 1]), np.array([True, True]), np.positive)


def dense(vector: SparseVector, size: int) -> np.ndarray:
    weights = np.zeros(size, dtype=np.float32)
    weights[vector.indices] = vector.values
    return weights


def test_a_sum_by_hand() -> None:
    logits = np.array([[[1.0, -2.0], [3.0, 0.5], [8.0, 8.0]]], dtype=np.float32)
    assert sum_pool(logits, np.array([[1, 1, 0]]), np.positive).tolist() == [[4.0, 0.5]]


def test_padding_takes_no_part() -> None:
    logits = np.array([[[1.0, -2.0], [9.0, 9.0]]], dtype=np.float32)
    assert max_pool(logits, np.array([[1, 0]])).tolist() == [[1.0, -2.0]]


def test_padding_may_stand_anywhere() -> None:
    logits = np.arange(12, dtype=np.float32).reshape(1, 4, 3)[:, ::-1]
    assert max_pool(logits, np.array([[0, 1, 0, 1]])).tolist() == [[6.0, 7.0, 8.0]]


def test_a_row_of_padding_alone_has_no_weights() -> None:
    pooled = max_pool(np.ones((1, 2, 3), dtype=np.float32), np.zeros((1, 2), dtype=np.int64))
    assert len(sparsify(pooled[0], np.ones(3, dtype=bool), np.log1p)) == 0


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("mask", [[[1, 1]], [[1, 0]]])
def test_the_result_is_float32(kind: type, mask: list[list[int]]) -> None:
    assert max_pool(np.ones((1, 2, 3), dtype=kind), np.array(mask, dtype=np.int64)).dtype == np.float32


@pytest.mark.parametrize("padding", [0, 100])
def test_allocates_nothing_of_the_size_of_the_logits(padding: int) -> None:
    logits = np.zeros((2, 200, 5000), dtype=np.float32)
    mask = np.ones((2, 200), dtype=np.int64)
    mask[:, 200 - padding :] = 0
    tracemalloc.start()
    max_pool(logits, mask)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < logits.nbytes / 20


def test_excluded_entries_carry_no_weight() -> None:
    vector = sparsify(np.array([5, 6, 7], dtype=np.float32), np.array([True, False, True]), None)
    assert vector.indices.tolist() == [0, 2]
    assert vector.values.tolist() == [5.0, 7.0]


@pytest.mark.parametrize(("broken", "message"), [(np.nan, "contains NaN"), (np.inf, "must be finite")])
def test_a_broken_graph_is_not_taken_for_an_empty_text(broken: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sparsify(np.array([1, broken], dtype=np.float32), np.array([True, True]), np.log1p)
