from __future__ import annotations

import copy
import math
import pickle
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spladerunner import MissingExtraError, SparseVector
from spladerunner.vector import similarity

weights = st.floats(0.0009765625, 100, width=32)
vectors = st.dictionaries(st.integers(0, 50), weights, max_size=30).map(
    lambda entries: SparseVector(sorted(entries), [entries[index] for index in sorted(entries)])
)


def dense(vector: SparseVector) -> np.ndarray:
    array = np.zeros(51)
    array[vector.indices] = vector.values
    return array


@given(vectors, vectors)
def test_dot_is_the_product_of_the_dense_vectors(first: SparseVector, second: SparseVector) -> None:
    assert first.dot(second) == pytest.approx(float(dense(first) @ dense(second)))
    assert first.dot(second) == second.dot(first)


@given(vectors, st.integers(0, 40))
def test_top_keeps_the_heaviest(vector: SparseVector, n: int) -> None:
    top = vector.top(n)
    ranked = sorted(zip(-vector.values, vector.indices, strict=True))[:n]
    assert sorted(index for _, index in ranked) == top.indices.tolist()
    assert dense(top)[top.indices] == pytest.approx(dense(vector)[top.indices], abs=0)


@pytest.mark.slow
@given(vectors, weights)
def test_prune_keeps_weights_of_at_least_the_limit(vector: SparseVector, least: float) -> None:
    kept = vector.prune(least)
    assert kept.indices.tolist() == [i for i, v in zip(vector.indices, vector.values, strict=True) if v >= least]


def test_top_of_equal_weights_takes_the_lower_indices() -> None:
    assert SparseVector([2, 5, 9], [1, 1, 1]).top(2).indices.tolist() == [2, 5]


@pytest.mark.slow
@given(st.lists(vectors, max_size=4), st.lists(vectors, max_size=6))
def test_similarity_is_the_product_of_the_dense_matrices(
    queries: list[SparseVector], documents: list[SparseVector]
) -> None:
    found = similarity(queries, documents)
    assert found.shape == (len(queries), len(documents)) and found.dtype == np.float64
    for row, query in zip(found, queries, strict=True):
        for score, document in zip(row, documents, strict=True):
            exact = math.fsum((dense(query) * dense(document)).tolist())
            assert score == pytest.approx(exact, rel=1e-14) == pytest.approx(query.dot(document), rel=1e-14)


def test_similarity_of_documents_that_are_empty_or_have_no_common_token() -> None:
    empty, query, document = SparseVector([], []), SparseVector([2, 4], [3.0, 5.0]), SparseVector([4, 90], [7.0, 1.0])
    expected = [[0, 35, 0, 0], [0, 0, 0, 0]]
    assert similarity([query, empty], [empty, document, SparseVector([1], [2.0]), empty]).tolist() == expected
    assert similarity([document], [query]).tolist() == [[35]]
    assert similarity([], []).shape == (0, 0) and similarity([query], [empty]).tolist() == [[0]]


@pytest.mark.slow
@given(vectors)
def test_as_dict_and_to_scipy_hold_the_same_weights(vector: SparseVector) -> None:
    entries = vector.as_dict()
    assert list(entries) == vector.indices.tolist() and list(entries.values()) == vector.values.tolist()
    row = vector.to_scipy(51)
    assert row.shape == (1, 51) and row.dtype == np.float32 and np.array_equal(row.toarray()[0], dense(vector))
    assert vector.to_scipy().shape == (1, max(entries, default=-1) + 1)


def test_to_scipy_shares_no_memory_and_refuses_a_size_below_its_indices() -> None:
    vector = SparseVector([1, 4], [2.0, 0.5])
    vector.to_scipy().data[0] = 9
    assert vector.values[0] == 2
    with pytest.raises(ValueError, match=r"size=4 is too small: the vector has the index 4"):
        vector.to_scipy(4)


def test_to_scipy_without_scipy_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'spladerunner\[formats\]'"):
        SparseVector([1], [2.0]).to_scipy()


def test_types_are_int32_and_float32_whatever_comes_in() -> None:
    vector = SparseVector(np.array([1, 2], dtype=np.int64), np.array([0.5, 1.5]))
    assert vector.indices.dtype == np.int32 and vector.values.dtype == np.float32


def test_is_frozen() -> None:
    vector = SparseVector([1], [2.0])
    with pytest.raises(AttributeError):
        vector.values = np.zeros(1, dtype=np.float32)  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        vector.values[0] = 3


def test_does_not_share_memory_with_what_it_was_made_from() -> None:
    values = np.array([1.0], dtype=np.float32)
    vector = SparseVector([1], values)
    values[0] = 9
    assert vector.values[0] == 1


def test_equality_and_hash() -> None:
    assert SparseVector([1], [2.0]) == SparseVector([1], [2.0])
    assert SparseVector([1], [2.0]) != SparseVector([1], [2.5])
    assert SparseVector([1], [2.0]) != "1:2.0"
    assert len({SparseVector([1], [2.0]), SparseVector([1], [2.0])}) == 1


def test_pickles() -> None:
    vector = SparseVector([1, 7], [2.0, 0.5])
    assert pickle.loads(pickle.dumps(vector)) == vector


@pytest.mark.parametrize(
    ("indices", "values", "message"),
    [
        ([1, 2], [1.0], "equally long"),
        ([[1]], [[1.0]], "one-dimensional"),
        ([2, 1], [1.0, 1.0], "ascending"),
        ([1, 1], [1.0, 1.0], "ascending"),
        ([-1], [1.0], "must lie in 0 to"),
        ([1], [float("inf")], "finite"),
        ([1], [float("nan")], "finite"),
    ],
)
def test_an_invalid_vector_is_refused(indices: list[int], values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparseVector(indices, values)


def test_a_negative_top_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        SparseVector([1], [1.0]).top(-1)


@pytest.mark.parametrize("index", [-1, -(2**32) + 5, 2**31, 2**32 + 5, 2**63 - 1])
def test_no_index_wraps(index: int) -> None:
    with pytest.raises(ValueError, match=rf"indices must lie in 0 to 2147483647, not in {index}"):
        SparseVector(np.array([index], dtype=np.int64), [1.0])


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda vector: pickle.loads(pickle.dumps(vector))])
def test_copies_are_equal_and_read_only(copied: Callable[[SparseVector], SparseVector]) -> None:
    vector = SparseVector([1, 4], [2.0, 0.5])
    found = copied(vector)
    assert found == vector and hash(found) == hash(vector)
    assert not found.indices.flags.writeable and not found.values.flags.writeable


def test_equal_vectors_have_equal_hashes() -> None:
    assert SparseVector([1], [0.0]) == SparseVector([1], [-0.0])
    assert hash(SparseVector([1], [0.0])) == hash(SparseVector([1], [-0.0]))


def test_prune_refuses_nan() -> None:
    with pytest.raises(ValueError, match="min_weight=nan is not a number"):
        SparseVector([1], [2.0]).prune(float("nan"))


@pytest.mark.slow
@given(
    st.dictionaries(st.integers(0, 99), st.floats(0.015625, 8, width=32), max_size=20),
    st.none() | st.floats(0, 8, width=32),
    st.none() | st.floats(0, 1),
    st.none() | st.integers(0, 20),
)
@settings(deadline=None)
def test_pruning_keeps_what_every_limit_allows(
    weights: dict[int, float], min_weight: float | None, max_ratio: float | None, top: int | None
) -> None:
    vector = SparseVector(sorted(weights), [weights[index] for index in sorted(weights)])
    kept = dict(weights)
    if min_weight is not None:
        kept = {index: weight for index, weight in kept.items() if weight >= min_weight}
    if max_ratio is not None:
        least = np.float32(max_ratio * max(weights.values(), default=0))
        kept = {index: weight for index, weight in kept.items() if np.float32(weight) >= least}
    if top is not None:
        kept = dict(sorted(kept.items(), key=lambda item: (-item[1], item[0]))[:top])
    pruned = vector.prune(min_weight, max_ratio=max_ratio, top=top)
    assert dict(zip(pruned.indices.tolist(), pruned.values.tolist(), strict=True)) == kept


def test_a_tenth_of_the_largest_weight_is_kept_at_a_ratio_of_a_tenth() -> None:
    vector = SparseVector([1, 2, 3], [2.0, 0.2, 0.19999])
    assert vector.prune(max_ratio=0.1).indices.tolist() == [1, 2]
    assert len(SparseVector([], []).prune(max_ratio=0.1)) == 0


@pytest.mark.parametrize("ratio", [-0.1, 1.5, float("nan")])
def test_a_ratio_out_of_range_is_an_error(ratio: float) -> None:
    with pytest.raises(ValueError, match="is not a number from 0 to 1"):
        SparseVector([1], [1.0]).prune(max_ratio=ratio)


def test_indices_are_integers_of_31_bits() -> None:
    assert SparseVector([0, 2**31 - 1], [1.0, 2.0]).indices.tolist() == [0, 2**31 - 1]
    for indices in ([1.0], [True], ["1"]):
        with pytest.raises(ValueError, match="indices must be integers, not "):
            SparseVector(indices, [1.0])


@pytest.mark.parametrize(("ratio", "kept"), [(0, [1, 2, 3]), (0.5, [2, 3]), (0.51, [2]), (1, [2])])
def test_the_ratio_of_the_largest_weight_is_a_closed_limit(ratio: float, kept: list[int]) -> None:
    assert SparseVector([1, 2, 3], [0.25, 4.0, 2.0]).prune(max_ratio=ratio).indices.tolist() == kept


def test_no_negative_weight_is_near_the_largest() -> None:
    assert len(SparseVector([1, 2], [-0.5, -0.25]).prune(max_ratio=1.0)) == 0
    assert len(SparseVector([], []).prune(max_ratio=1.0)) == 0
