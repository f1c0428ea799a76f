"""Fusion: two rankings of the same documents as one, by rank or by score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spladerunner.evaluation.search import DEPTH, EMPTY, Ranking, top_ranked

K = 60
"""The constant of reciprocal rank fusion, as its authors chose it."""


def reciprocal_rank(rankings: Sequence[Ranking], ties: NDArray[np.int64], depth: int = DEPTH) -> Ranking:
    """Scores a document with the sum of 1 / (K + rank) over the rankings that hold it.

    Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods",
    SIGIR 2009. ties: from search.tie_order.

    >>> a, b = (Ranking(np.array(order), np.ones(2, dtype=np.float32)) for order in ([0, 1], [1, 2]))
    >>> reciprocal_rank([a, b], np.arange(3)).documents.tolist()
    [1, 0, 2]
    """
    return _summed(rankings, [1 / (K + np.arange(1, len(ranking.scores) + 1)) for ranking in rankings], ties, depth)


def weighted(
    rankings: Sequence[Ranking], weights: Sequence[float], ties: NDArray[np.int64], depth: int = DEPTH
) -> Ranking:
    """Scores a document with the weighted sum of its scores, each divided by the largest of its ranking.

    Scores are positive, and that of a document that is not in a ranking counts as 0.

    >>> a = Ranking(np.array([0, 1]), np.array([8, 4], dtype=np.float32))
    >>> b = Ranking(np.array([1]), np.array([3], dtype=np.float32))
    >>> weighted([a, b], [0.5, 0.5], np.arange(2))
    Ranking(documents=array([1, 0]), scores=array([0.75, 0.5 ], dtype=float32))
    """
    shares = [
        weight * ranking.scores.astype(np.float64) / max(ranking.scores, default=1.0)
        for ranking, weight in zip(rankings, weights, strict=True)
    ]
    return _summed(rankings, shares, ties, depth)


def _summed(
    rankings: Sequence[Ranking], shares: Sequence[NDArray[np.float64]], ties: NDArray[np.int64], depth: int
) -> Ranking:
    if not any(len(ranking.documents) for ranking in rankings):
        return EMPTY
    found, place = np.unique(np.concatenate([ranking.documents for ranking in rankings]), return_inverse=True)
    scores = np.bincount(place, weights=np.concatenate(shares)).astype(np.float32)
    return top_ranked(Ranking(found, scores), ties, depth)
