"""Exact search: the dot product of every document with every query, and the best documents of each query."""

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
"""The length of a ranking, as in TREC runs by custom."""

BLOCK = 1024
"""Queries and documents multiplied at once; the products take at most BLOCK × BLOCK × 16 bytes."""


class Ranking(NamedTuple):
    """The documents that a query retrieves, best first.

    documents: (n,) int64, positions in the collection. scores: (n,) float32, as trec_eval reads them.
    """

    documents: NDArray[np.int64]
    scores: NDArray[np.float32]


EMPTY = Ranking(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))


def tie_order(ids: Sequence[str]) -> NDArray[np.int64]:
    """Each document's place among documents of equal score, (n,) int64. As in trec_eval, the greater id comes first.

    >>> tie_order(["a", "c", "b"]).tolist()
    [2, 0, 1]
    """
    order = np.empty(len(ids), dtype=np.int64)
    order[sorted(range(len(ids)), key=ids.__getitem__, reverse=True)] = np.arange(len(ids))
    return order


def top_ranked(ranking: Ranking, ties: NDArray[np.int64], depth: int) -> Ranking:
    """Sorts by score, then by tie order, and keeps the first `depth` documents."""
    documents, scores = ranking
    if len(scores) > depth:
        least = np.partition(scores, -depth)[-depth]
        kept = scores >= least
        documents, scores = documents[kept], scores[kept]
    order = np.lexsort((ties[documents], -scores))[:depth]
    return Ranking(documents[order], scores[order])


class ExactSearch:
    """Scores documents block by block against all queries, and keeps only each query's best documents.

    queries: their vectors. document_ids: ids of the whole collection, in the order in which documents are added.
    rankings: one Ranking for each query. Products are summed in float64 and rounded to float32.
    """

    def __init__(
        self,
        queries: Sequence[SparseVector],
        document_ids: Sequence[str],
        vocabulary: Vocabulary,
        depth: int = DEPTH,
    ) -> None:
        self._vocabulary = vocabulary
        self._queries = [to_csr(queries[start : start + BLOCK], vocabulary) for start in range(0, len(queries), BLOCK)]
        self._ties = tie_order(document_ids)
        self._depth = depth
        self._added = 0
        self.rankings = [EMPTY] * len(queries)

    def add(self, documents: Sequence[SparseVector], vocabulary: Vocabulary) -> None:
        """Scores the next documents. Raises CollectionError if their vocabulary is not that of the queries."""
        if vocabulary.sha256 != self._vocabulary.sha256:
            raise CollectionError(
                f"Queries over a vocabulary of {len(self._vocabulary)} tokens cannot be scored against documents over "
                f"a different vocabulary of {len(vocabulary)}: encode both with one model."
            )
        for start in range(0, len(documents), BLOCK):
            block = to_csr(documents[start : start + BLOCK], vocabulary).T.tocsr()
            query = 0
            for queries in self._queries:
                scores = (queries @ block).tocsr()
                for row in range(scores.shape[0]):
                    cells = slice(scores.indptr[row], scores.indptr[row + 1])
                    found = scores.indices[cells].astype(np.int64) + self._added
                    self._merge(query, Ranking(found, scores.data[cells].astype(np.float32)))
                    query += 1
            self._added += block.shape[1]

    def _merge(self, query: int, found: Ranking) -> None:
        ranking = self.rankings[query]
        if len(ranking.scores) == self._depth:
            competitive = found.scores >= ranking.scores[-1]
            found = Ranking(found.documents[competitive], found.scores[competitive])
        if len(found.scores):
            both = Ranking(
                np.concatenate([ranking.documents, found.documents]), np.concatenate([ranking.scores, found.scores])
            )
            self.rankings[query] = top_ranked(both, self._ties, self._depth)


def to_csr(vectors: Sequence[SparseVector], vocabulary: Vocabulary) -> scipy.sparse.csr_array:
    """The vectors as rows of a matrix, (n, V) float64."""
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
