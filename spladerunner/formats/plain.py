"""Formats without an engine, of which the others are made: tokens and weights, indices and values, a matrix."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spladerunner.errors import requires_extra
from spladerunner.vector import SparseVector
from spladerunner.vocabulary import Vocabulary

if TYPE_CHECKING:
    import scipy.sparse


class IndicesAndValues(TypedDict):
    """A sparse vector as two lists of equal length, indices ascending, from 0.

    >>> IndicesAndValues(indices=[3, 7], values=[0.5, 2.0])
    {'indices': [3, 7], 'values': [0.5, 2.0]}
    """

    indices: list[int]
    values: list[float]


def decimals(values: NDArray[np.float32]) -> list[float]:
    """Each weight as the shortest decimal that reads back as the same float32: 0.1, not 0.10000000149011612."""
    return list(map(float, map(str, values)))


def tokens(vector: SparseVector, vocabulary: Vocabulary) -> dict[str, float]:
    """{token: weight}, heaviest first.

    >>> tokens(SparseVector([1, 2], [0.5, 2.0]), Vocabulary(["[CLS]", "river", "bank"], [0]))
    {'bank': 2.0, 'river': 0.5}
    """
    order = vector.by_weight()
    names = vocabulary.tokens
    weights = decimals(vector.values[order])
    return {names[index]: weight for index, weight in zip(vector.indices[order].tolist(), weights, strict=True)}


def from_tokens(weights: Mapping[str, float], vocabulary: Vocabulary) -> SparseVector:
    """The inverse of tokens. Raises ValueError if a token is not in the vocabulary.

    >>> from_tokens({"bank": 2.0}, Vocabulary(["[CLS]", "river", "bank"], [0])).indices.tolist()
    [2]
    """
    return vocabulary.vector(weights)


def indices(vector: SparseVector) -> IndicesAndValues:
    """{"indices": [...], "values": [...]}, indices ascending, from 0.

    >>> indices(SparseVector([3, 7], [0.5, 2.0]))
    {'indices': [3, 7], 'values': [0.5, 2.0]}
    """
    return {"indices": vector.indices.tolist(), "values": decimals(vector.values)}


def from_indices(pair: Mapping[str, ArrayLike]) -> SparseVector:
    """The inverse of indices and qdrant. Raises ValueError as SparseVector does.

    >>> from_indices({"indices": [3, 7], "values": [0.5, 2.0]}).values.tolist()
    [0.5, 2.0]
    """
    return SparseVector(pair["indices"], pair["values"])


def csr(vectors: Iterable[SparseVector], vocabulary_size: int) -> scipy.sparse.csr_array:
    """A scipy.sparse.csr_array with a row for each vector: (number of vectors, vocabulary_size) float32.

    `csr(documents, size) @ csr(queries, size).T` is exact search in memory.
    Raises MissingExtraError if SciPy is not installed.

    >>> csr([SparseVector([1, 3], [0.5, 2.0])], 4).toarray().tolist()
    [[0.0, 0.5, 0.0, 2.0]]
    """
    sparse = _scipy_sparse()
    rows = list(vectors)
    columns = np.concatenate([np.empty(0, np.int32), *(row.indices for row in rows)])
    weights = np.concatenate([np.empty(0, np.float32), *(row.values for row in rows)])
    starts = np.cumsum([0, *map(len, rows)])
    return sparse.csr_array((weights, columns, starts), shape=(len(rows), vocabulary_size))


def from_csr(matrix: scipy.sparse.sparray | scipy.sparse.spmatrix) -> list[SparseVector]:
    """The inverse of csr: a vector for each row of a sparse matrix of SciPy, without stored zeros.

    >>> from_csr(csr([SparseVector([1, 3], [0.5, 2.0])], 4))[0].indices.tolist()
    [1, 3]
    """
    rows = _scipy_sparse().csr_array(matrix, copy=True)
    rows.sum_duplicates()  # sorts the indices, too
    rows.eliminate_zeros()
    return [
        SparseVector(rows.indices[start:end], rows.data[start:end])
        for start, end in zip(rows.indptr[:-1], rows.indptr[1:], strict=True)
    ]


def heaviest(vector: SparseVector, most: int, limit_of: str) -> SparseVector:
    """The `most` heaviest weights of a vector, with a warning that says how many are dropped, if any."""
    if len(vector) <= most:
        return vector
    warnings.warn(
        f"{limit_of} accepts {most} weights a vector: of {len(vector)}, the {len(vector) - most} lightest are dropped. "
        "Prune the vector with top() or prune() to choose yourself",
        stacklevel=3,
    )
    return vector.top(most)


def positive(vector: SparseVector, engine: str) -> SparseVector:
    """The vector without weights of 0. Raises ValueError for a negative weight, which the engine rejects."""
    if np.any(vector.values < 0):
        at = int(np.argmin(vector.values))
        raise ValueError(
            f"{engine} accepts no negative weights, but index {vector.indices[at]} has {vector.values[at]}"
        )
    kept = vector.values > 0
    return vector if kept.all() else SparseVector(vector.indices[kept], vector.values[kept])


def _scipy_sparse() -> Any:
    with requires_extra("formats", "A CSR matrix"):
        import scipy.sparse
    return scipy.sparse
