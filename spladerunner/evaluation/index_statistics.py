"""What vectors cost in an inverted index: how many weights, how large, and how often a query touches them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from spladerunner.vector import SparseVector

POSTING_BYTES = 4 + 4
"""A document's number and its weight, uncompressed."""

BIN = 0.1
"""The width of a bin of weights."""


class Footprint:
    """Counts over the vectors of a side, documents or queries; the vectors themselves are not kept.

    texts: how many. frequency: (V,) int64, how many texts hold each token. lengths: how many texts hold 0, 1, 2 ...
    weights. weights: how many weights lie in [0, BIN), [BIN, 2 BIN) ...; empty for BM25, which has none of its own.
    """

    def __init__(self, vocabulary_size: int) -> None:
        self.frequency: NDArray[np.int64] = np.zeros(vocabulary_size, dtype=np.int64)
        self.lengths: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.weights: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def add(self, vectors: Iterable[SparseVector]) -> None:
        """Counts further vectors."""
        kept = [*vectors, SparseVector((), ())]
        indices = np.concatenate([vector.indices for vector in kept])
        values = np.concatenate([vector.values for vector in kept])
        self.frequency += np.bincount(indices, minlength=len(self.frequency))
        self.count_lengths([len(vector) for vector in kept[:-1]])
        self.weights = _sum(self.weights, np.bincount((np.maximum(values, 0) / BIN).astype(np.int64)))

    def count_lengths(self, lengths: Iterable[int]) -> None:
        """Counts texts by how many weights they hold."""
        self.lengths = _sum(self.lengths, np.bincount(np.array([*lengths], dtype=np.int64)))

    @property
    def texts(self) -> int:
        """How many texts were counted."""
        return int(self.lengths.sum())

    @property
    def postings(self) -> int:
        """How many weights they hold, together."""
        return int(self.frequency.sum())

    @property
    def mean_length(self) -> float:
        """Weights a text."""
        return self.postings / max(self.texts, 1)

    @property
    def bytes(self) -> int:
        """What the postings take, uncompressed, without the vocabulary."""
        return self.postings * POSTING_BYTES


def flops(documents: Footprint, queries: Footprint) -> float:
    """The sum over the vocabulary of p_document(token) × p_query(token): expected shared tokens of a pair.

    "SPLADE: Sparse Lexical and Expansion Model for First Stage Ranking" (Formal et al., SIGIR 2021), section 4.
    """
    pairs = max(documents.texts, 1) * max(queries.texts, 1)
    return float(np.dot(documents.frequency.astype(np.float64), queries.frequency.astype(np.float64)) / pairs)


def posting_reads(documents: Footprint, queries: Footprint) -> float:
    """How many postings a query reads on average, where the lists of its tokens are read whole: FLOPS × documents."""
    return flops(documents, queries) * documents.texts


def _sum(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    total = np.zeros(max(left.size, right.size), dtype=np.int64)
    total[: left.size] += left
    total[: right.size] += right
    return total
