"""Exact search: every document's dot product with every query, and the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from spladerunner.errors import CollectionError
from spladerunner.vector import SparseVector
from spladerunner.vocabulary import Vocabulary

DEPTH = 1000
"""How many documents a query finds, as in trec_eval's own custom."""

BLOCK = 1024
"""How many queries, and how many documents, are multiplied at once: at most BLOCK × BLOCK × 16 bytes are held."""


class Ranking(NamedTuple):
    """What a query finds, best first.

    documents: (n,) int64, positions in the collection. scores: (n,) float32, as trec_eval reads them.
    """

    documents: NDArray[np.int64]
    scores: NDArray[np.float32]


NOTHING = Ranking(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))


def tie_order(ids: Sequence[str]) -> NDArray[np.int64]:
    """Which of two documents with equal scores comes first, the lower number: trec_eval takes the greater id. (n,)"""
    order = np.empty(len(ids), dtype=np.int64)
    order[sorted(range(len(ids)), key=ids.__getitem__, reverse=True)] = np.arange(len(ids))
    return order


def best(ranking: Ranking, ties: NDArray[np.int64], depth: int) -> Ranking:
    """The `depth` best of what is found, in trec_eval's order."""
    documents, scores = ranking
    if len(scores) > depth:
        least = np.partition(scores, -depth)[-depth]
        kept = scores >= least
        documents, scores = documents[kept], scores[kept]
    order = np.lexsort((ties[documents], -scores))[:depth]
    return Ranking(documents[order], scores[order])


class ExactSearch:
    """Scores documents as they come, a block at a time, and keeps each query's best alone.

    queries: their vectors. document_ids: of the whole collection, in the order in which the documents will come.
    Products are summed in float64 and rounded to float32.
    """

    def __init__(
        self,
        queries: Sequence[SparseVector],
        document_ids: Sequence[str],
        vocabulary: Vocabulary,
        depth: int = DEPTH,
    ) -> None:
        self._vocabulary = vocabulary
        self._queries = [matrix(queries[at : at + BLOCK], vocabulary) for at in range(0, len(queries), BLOCK)]
        self._ties = tie_order(document_ids)
        self._depth = depth
        self._seen = 0
        self.rankings = [NOTHING] * len(queries)

    def add(self, documents: Sequence[SparseVector], vocabulary: Vocabulary) -> None:
        """Scores the next documents. CollectionError where they are not over the vocabulary of the queries."""
        if vocabulary.sha256 != self._vocabulary.sha256:
            raise CollectionError(
                f"Queries over a vocabulary of {len(self._vocabulary)} tokens cannot be scored against documents over "
                f"another, of {len(vocabulary)}: encode both with one model."
            )
        for start in range(0, len(documents), BLOCK):
            block = matrix(documents[start : start + BLOCK], vocabulary).T.tocsr()
            at = 0
            for queries in self._queries:
                scores = (queries @ block).tocsr()
                for row in range(scores.shape[0]):
                    cells = slice(scores.indptr[row], scores.indptr[row + 1])
                    found = scores.indices[cells].astype(np.int64) + self._seen
                    self._merge(at, Ranking(found, scores.data[cells].astype(np.float32)))
                    at += 1
            self._seen += block.shape[1]

    def _merge(self, query: int, found: Ranking) -> None:
        before = self.rankings[query]
        if len(before.scores) == self._depth:
            hopeful = found.scores >= before.scores[-1]
            found = Ranking(found.documents[hopeful], found.scores[hopeful])
        if len(found.scores):
            both = Ranking(
                np.concatenate([before.documents, found.documents]), np.concatenate([before.scores, found.scores])
            )
            self.rankings[query] = best(both, self._ties, self._depth)


def matrix(vectors: Sequence[SparseVector], vocabulary: Vocabulary) -> scipy.sparse.csr_array:
    """The vectors as rows, (n, V) float64."""
    pointers = np.cumsum([0, *map(len, vectors)])
    empty = SparseVector((), ())
    return scipy.sparse.csr_array(
        (
            np.concatenate([vector.values for vector in (*vectors, empty)]).astype(np.float64),
            np.concatenate([vector.indices for vector in (*vectors, empty)]),
            pointers,
        ),
        shape=(len(vectors), len(vocabulary)),
    )
