from __future__ import annotations

import numpy as np
import pytest

from spladerunner import CollectionError, SparseVector
from spladerunner.evaluation import search
from spladerunner.evaluation.search import ExactSearch
from spladerunner.vocabulary import Vocabulary

VOCABULARY = Vocabulary([f"t{n}" for n in range(40)], [])


def random_vectors(count: int, seed: int) -> list[SparseVector]:
    """Coarse weights, so that there are ties."""
    random = np.random.default_rng(seed)
    rows = random.integers(1, 4, (count, 40)) * (random.random((count, 40)) < 0.1)
    return [SparseVector(np.flatnonzero(row), row[row > 0] / 2) for row in rows]


@pytest.mark.parametrize("depth", [1, 7, 1000])
def test_rankings_are_all_dot_products_sorted_as_by_trec_eval(monkeypatch: pytest.MonkeyPatch, depth: int) -> None:
    monkeypatch.setattr(search, "BLOCK", 13)
    queries, documents = random_vectors(30, 0), random_vectors(100, 1)
    ids = [f"d{n}" if n % 2 else f"é{n}" for n in range(100)]
    exact = ExactSearch(queries, ids, VOCABULARY, depth)
    for start, end in ((0, 1), (1, 60), (60, 60), (60, 100)):
        exact.add(documents[start:end], VOCABULARY)
    for query, found in zip(queries, exact.rankings, strict=True):
        scored = [(query.dot(document), ids[at].encode(), at) for at, document in enumerate(documents)]
        expected = sorted((row for row in scored if row[0] > 0), reverse=True)[:depth]
        assert found.documents.tolist() == [at for _, _, at in expected]
        assert found.scores.tolist() == [np.float32(score) for score, _, _ in expected]


def test_queries_and_documents_over_two_vocabularies_are_an_error() -> None:
    other = Vocabulary([f"u{n}" for n in range(40)], [])
    with pytest.raises(CollectionError, match="encode both with one model"):
        ExactSearch(random_vectors(2, 0), ["a"], VOCABULARY).add(random_vectors(1, 1), other)


def test_an_empty_query_and_an_empty_document_find_nothing() -> None:
    empty = SparseVector((), ())
    exact = ExactSearch([empty, SparseVector([1], [1.0])], ["a", "b"], VOCABULARY)
    exact.add([empty, SparseVector([1, 2], [2.0, 1.0])], VOCABULARY)
    assert [found.documents.tolist() for found in exact.rankings] == [[], [1]]
