from __future__ import annotations

import pytest

from spladerunner import SparseVector
from spladerunner.evaluation.index_statistics import IndexStatistics, flops, posting_reads

DOCUMENTS = [SparseVector([0, 1], [0.05, 1.25]), SparseVector([1], [0.3]), SparseVector((), ()), SparseVector([3], [2])]
QUERIES = [SparseVector([1, 3], [1, 1]), SparseVector([1, 2], [1, 1])]


def statistics(vectors: list[SparseVector], step: int = 1) -> IndexStatistics:
    made = IndexStatistics(5)
    for start in range(0, len(vectors), step):
        made.add(vectors[start : start + step])
    return made


@pytest.mark.parametrize("step", [1, 3, 4])
def test_counts_do_not_depend_on_how_vectors_are_split(step: int) -> None:
    made = statistics(DOCUMENTS, step)
    assert (made.texts, made.postings, made.mean_length, made.bytes) == (4, 4, 1.0, 32)
    assert made.frequency.tolist() == [1, 2, 0, 1, 0]
    assert made.lengths.tolist() == [1, 2, 1]
    weights = made.weights.tolist()
    assert sum(weights) == 4 and [weights[at] for at in (0, 3, 12, 20)] == [1, 1, 1, 1]


def test_posting_reads_are_those_of_reading_each_list_to_its_end() -> None:
    lists = {token: sum(token in vector.indices for vector in DOCUMENTS) for token in range(5)}
    reads = [sum(lists[token] for token in query.indices.tolist()) for query in QUERIES]
    documents, queries = statistics(DOCUMENTS), statistics(QUERIES)
    assert posting_reads(documents, queries) == pytest.approx(sum(reads) / 2)
    shared = [
        len({*query.indices.tolist()} & {*document.indices.tolist()}) for query in QUERIES for document in DOCUMENTS
    ]
    assert flops(documents, queries) == pytest.approx(sum(shared) / len(shared))


def test_no_texts_cost_nothing() -> None:
    empty = IndexStatistics(5)
    assert (empty.texts, empty.mean_length, posting_reads(empty, empty)) == (0, 0.0, 0.0)
