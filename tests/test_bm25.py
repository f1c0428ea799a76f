from __future__ import annotations

import math

import pytest

from spladerunner.evaluation.bm25 import BM25, stem

DOCUMENTS = {"a": "bombs and reactors", "b": "the reactor", "c": "", "d": "a bomb, a bomb, a river"}


def lucene(term: int, length: int, holding: int, count: int = 4, mean: float = 6 / 4) -> float:
    """Lucene's BM25, the default of bm25s, with Anserini's k1 and b; lengths count stems, without stop words."""
    k1, b = 0.9, 0.4
    idf = math.log(1 + (count - holding + 0.5) / (holding + 0.5))
    return idf * term / (term + k1 * (1 - b + b * length / mean))


def test_scores_are_the_formula_over_stems_without_stop_words() -> None:
    assert stem(["The bombs of the REACTORS"]) == [["bomb", "reactor"]]
    index = BM25(DOCUMENTS)
    found = index.rank(["bomb", "unknown", "river"])
    assert found.documents.tolist() == [3, 0]
    assert found.scores.tolist() == pytest.approx([lucene(2, 3, 2) + lucene(1, 3, 1), lucene(1, 2, 2)], rel=1e-5)
    parts = index.contributions(["river", "bomb", "bomb", "unknown"], 3)
    assert parts == pytest.approx({"bomb": 2 * lucene(2, 3, 2), "river": lucene(1, 3, 1)}, rel=1e-5)
    assert list(parts) == ["bomb", "river"]


def test_the_constants_are_those_of_anserinis_baselines() -> None:
    """k1 0.9 and b 0.4, with every number written out: two documents hold the stem, of 2 and of 4 stems."""
    index = BM25({"a": "bomb river", "b": "bomb bomb river bank", "c": "trout"})
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    mean = (2 + 4 + 1) / 3
    expected = [idf * 2 / (2 + 0.9 * (0.6 + 0.4 * 4 / mean)), idf * 1 / (1 + 0.9 * (0.6 + 0.4 * 2 / mean))]
    found = index.rank(["bomb"])
    assert found.documents.tolist() == [1, 0] and found.scores.tolist() == pytest.approx(expected, rel=1e-5)


def test_equal_scores_are_in_trec_evals_order() -> None:
    index = BM25({"b": "same words", "c": "same words", "a": "same words"})
    assert index.rank(["same"]).documents.tolist() == [1, 0, 2]
    assert index.rank(["same"], depth=2).documents.tolist() == [1, 0]


def test_unknown_stems_retrieve_nothing_and_an_index_may_be_empty() -> None:
    assert BM25(DOCUMENTS).rank(["unknown"]).documents.size == 0
    assert BM25(DOCUMENTS).rank([]).documents.size == 0
    empty = BM25({"a": "", "b": "the of and"})
    assert empty.rank(["bomb"]).documents.size == 0 and empty.statistics.texts == 2 and empty.statistics.postings == 0


def test_its_statistics_count_distinct_stems() -> None:
    index = BM25(DOCUMENTS)
    assert (index.statistics.texts, index.statistics.postings, index.statistics.mean_length) == (4, 5, 1.25)
    assert index.statistics.lengths.tolist() == [1, 1, 2]
    queries = index.query_statistics([["bomb", "bomb", "river"], ["unknown"]])
    assert (queries.texts, queries.postings) == (2, 2)
