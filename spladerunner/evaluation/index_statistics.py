"""The cost of vectors in an inverted index: the number of weights, its size, and the postings that a query reads."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from spladerunner.vector import SparseVector

POSTING_BYTES = 4 + 4
"""A document number and a weight, uncompressed."""

BIN_WIDTH = 0.1
"""The width of a bin of weights."""


class IndexStatistics:
    """Counts over the vectors of all documents or all queries. The vectors themselves are not kept.

    texts: their number. frequency: (V,) int64, the number of texts that hold each token.
    lengths: int64, the number of texts that hold 0, 1, 2 ... tokens.
    weights: int64, the number of weights in [0, BIN_WIDTH), [BIN_WIDTH, 2 BIN_WIDTH) ...; empty for BM25.

    >>> statistics = IndexStatistics(vocabulary_size=5)
    >>> statistics.add([SparseVector([0, 3], [0.5, 1.25]), SparseVector([3], [0.3])])
    >>> statistics.texts, statistics.postings, statistics.mean_length, statistics.bytes
    (2, 3, 1.5, 24)
    """

    def __init__(self, vocabulary_size: int) -> None:
        self.texts = 0
        self.frequency: NDArray[np.int64] = np.zeros(vocabulary_size, dtype=np.int64)
        self.lengths: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.weights: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def add(self, vectors: Iterable[SparseVector]) -> None:
        """Counts further vectors."""
        added = [*vectors, SparseVector((), ())]
        indices = np.concatenate([vector.indices for vector in added])
        values = np.concatenate([vector.values for vector in added])
        self.frequency += np.bincount(indices, minlength=len(self.frequency))
        self.add_lengths([len(vector) for vector in added[:-1]])
        self.weights = _sum(self.weights, np.bincount((np.maximum(values, 0) / BIN_WIDTH).astype(np.int64)))

    def add_lengths(self, lengths: Iterable[int]) -> None:
        """Counts further texts by their number of tokens, without the tokens."""
        counted = np.bincount(np.array([*lengths], dtype=np.int64))
        self.lengths = _sum(self.lengths, counted)
        self.texts += int(counted.sum())

    def beside(self, other: IndexStatistics) -> IndexStatistics:
        """Counts over the same texts in two indexes, each with a vocabulary of its own; without distributions."""
        both = IndexStatistics(0)
        both.texts = self.texts
        both.frequency = np.concatenate([self.frequency, other.frequency])
        return both

    @property
    def postings(self) -> int:
        """The number of weights in all texts."""
        return int(self.frequency.sum())

    @property
    def mean_length(self) -> float:
        """Weights per text."""
        return self.postings / max(self.texts, 1)

    @property
    def bytes(self) -> int:
        """The size of the postings, uncompressed, without the vocabulary."""
        return self.postings * POSTING_BYTES


def flops(documents: IndexStatistics, queries: IndexStatistics) -> float:
    """The sum over the vocabulary of p_document(token) × p_query(token): expected shared tokens of a pair.

    "SPLADE: Sparse Lexical and Expansion Model for First Stage Ranking" (Formal et al., SIGIR 2021), section 4.
    """
    pairs = max(documents.texts, 1) * max(queries.texts, 1)
    return float(np.dot(documents.frequency.astype(np.float64), queries.frequency.astype(np.float64)) / pairs)


def posting_reads(documents: IndexStatistics, queries: IndexStatistics) -> float:
    """Expected postings that a query reads if it reads the full list of each of its tokens: FLOPS × documents."""
    return flops(documents, queries) * documents.texts


def _sum(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    total = np.zeros(max(left.size, right.size), dtype=np.int64)
    total[: left.size] += left
    total[: right.size] += right
    return total
