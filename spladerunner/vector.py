"""SparseVector: the weights of a text over a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spladerunner.errors import requires_extra

if TYPE_CHECKING:  # numpy.typing is slow to import
    import scipy.sparse
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False, slots=True, init=False)
class SparseVector:
    """The non-zero weights of a text over a vocabulary; immutable.

    indices: (n,) int32, strictly ascending positions in the vocabulary.
    values:  (n,) float32, the weight at each, finite.

    Accepts anything that NumPy converts to such arrays. Raises ValueError if the two differ in length, the indices do
    not ascend, or a value is not finite.

    >>> vector = SparseVector([3, 7, 9], [0.5, 2.0, 1.0])
    >>> len(vector), vector.indices.tolist(), vector.values.tolist()
    (3, [3, 7, 9], [0.5, 2.0, 1.0])
    """

    indices: NDArray[np.int32]
    values: NDArray[np.float32]

    def __init__(self, indices: ArrayLike, values: ArrayLike) -> None:
        given = np.asarray(indices)
        if given.size and given.dtype.kind not in "iu":
            raise ValueError(f"indices must be integers, not {given.dtype}")
        if given.size and not 0 <= given.min() <= given.max() <= np.iinfo(np.int32).max:
            raise ValueError(f"indices must lie in 0 to 2147483647, not in {given.min()} to {given.max()}")
        indices = np.array(given, dtype=np.int32)
        values = np.array(values, dtype=np.float32)
        if indices.ndim != 1 or indices.shape != values.shape:
            raise ValueError(
                f"indices and values must be one-dimensional and equally long, not {indices.shape} and {values.shape}"
            )
        if not np.all(indices[:-1] < indices[1:]):
            raise ValueError("indices must be strictly ascending")
        if not np.all(np.isfinite(values)):
            raise ValueError("values must be finite")
        indices.flags.writeable = values.flags.writeable = False
        object.__setattr__(self, "indices", indices)
        object.__setattr__(self, "values", values)

    def __len__(self) -> int:
        """The number of weights."""
        return self.indices.size

    def __eq__(self, other: object) -> bool:
        """True for equal indices and equal values; 0.0 equals -0.0."""
        if not isinstance(other, SparseVector):
            return NotImplemented
        return np.array_equal(self.indices, other.indices) and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash((self.indices.tobytes(), (self.values + np.float32(0)).tobytes()))  # -0.0 + 0.0 is 0.0

    def __reduce__(self) -> tuple[type[SparseVector], tuple[NDArray[np.int32], NDArray[np.float32]]]:
        """Copied and pickled by the constructor, which checks the arrays and makes them read-only."""
        return SparseVector, (self.indices, self.values)

    def dot(self, other: SparseVector) -> float:
        """The dot product with another vector of the same vocabulary, summed in float64.

        >>> SparseVector([3, 7], [0.5, 2.0]).dot(SparseVector([7, 9], [1.5, 1.0]))
        3.0
        """
        _, mine, theirs = np.intersect1d(self.indices, other.indices, assume_unique=True, return_indices=True)
        return float(np.dot(self.values[mine].astype(np.float64), other.values[theirs].astype(np.float64)))

    def as_dict(self) -> dict[int, float]:
        """The weights as {index: weight}, by ascending index.

        >>> SparseVector([3, 7], [0.5, 2.0]).as_dict()
        {3: 0.5, 7: 2.0}
        """
        return dict(zip(self.indices.tolist(), self.values.tolist(), strict=True))

    def to_scipy(self, size: int | None = None) -> scipy.sparse.csr_array:
        """The vector as a scipy.sparse.csr_array of one row: (1, size) float32.

        size: of the vocabulary; by default the least that holds the indices. spladerunner.formats.csr has many rows.
        Raises MissingExtraError if SciPy is not installed, and ValueError if an index is not below size.

        >>> SparseVector([1, 3], [0.5, 2.0]).to_scipy(5).toarray().tolist()
        [[0.0, 0.5, 0.0, 2.0, 0.0]]
        """
        with requires_extra("formats", "SparseVector.to_scipy"):
            import scipy.sparse

        least = int(self.indices[-1]) + 1 if len(self) else 0
        if size is not None and size < least:
            raise ValueError(f"size={size} is too small: the vector has the index {least - 1}")
        row = (self.values.copy(), self.indices.copy(), [0, len(self)])
        return scipy.sparse.csr_array(row, shape=(1, least if size is None else size))

    def by_weight(self) -> NDArray[np.intp]:
        """Positions in this vector, heaviest first, equal weights by index. (n,)

        >>> SparseVector([3, 7, 9], [0.5, 2.0, 1.0]).by_weight().tolist()
        [1, 2, 0]
        """
        return np.argsort(-self.values, kind="stable")

    def top(self, n: int) -> SparseVector:
        """The n heaviest weights, of equal ones those with the lower index. Raises ValueError if n is negative.

        >>> SparseVector([3, 7, 9], [0.5, 2.0, 1.0]).top(2).indices.tolist()
        [7, 9]
        """
        if n < 0:
            raise ValueError(f"n={n} is too small: it must be at least 0")
        kept = np.sort(self.by_weight()[:n])
        return SparseVector(self.indices[kept], self.values[kept])

    def prune(
        self, min_weight: float | None = None, *, max_ratio: float | None = None, top: int | None = None
    ) -> SparseVector:
        """The weights of at least min_weight, of at least max_ratio times the largest, and of those the `top` heaviest.

        Each may be left out. OpenSearch publishes its models with max_ratio 0.1, also under this name.
        Raises ValueError if min_weight is NaN, max_ratio is not in 0 to 1, or top is negative.

        >>> vector = SparseVector([3, 7, 9, 11], [0.5, 2.0, 1.0, 0.125])
        >>> [vector.prune(0.5).indices.tolist(), vector.prune(max_ratio=0.5).indices.tolist()]
        [[3, 7, 9], [7, 9]]
        >>> vector.prune(0.2, top=2).indices.tolist()
        [7, 9]
        """
        kept = np.ones(len(self), dtype=bool)
        if min_weight is not None:
            if np.isnan(min_weight):
                raise ValueError(f"min_weight={min_weight} is not a number")
            kept &= self.values >= np.float32(min_weight)
        if max_ratio is not None:
            if not 0 <= max_ratio <= 1:
                raise ValueError(f"max_ratio={max_ratio} is not a number from 0 to 1")
            kept &= self.values >= np.float32(max_ratio * float(self.values.max(initial=0)))
        pruned = SparseVector(self.indices[kept], self.values[kept])
        return pruned if top is None else pruned.top(top)


def similarity(queries: Sequence[SparseVector], documents: Sequence[SparseVector]) -> NDArray[np.float64]:
    """The dot product of each query with each document, summed in float64: (queries, documents).

    >>> query, document = SparseVector([3, 7], [0.5, 2.0]), SparseVector([7, 9], [1.5, 1.0])
    >>> similarity([query], [document, query]).tolist()
    [[3.0, 4.25]]
    """
    scores = np.zeros((len(queries), len(documents)))
    lengths = np.array([len(document) for document in documents], dtype=np.intp)
    if not lengths.any():
        return scores
    columns = np.concatenate([document.indices for document in documents])
    weights = np.concatenate([document.values for document in documents]).astype(np.float64)
    filled = np.flatnonzero(lengths)
    starts = (np.cumsum(lengths) - lengths)[filled]
    size = 1 + max(int(vector.indices[-1]) for vector in (*queries, *documents) if len(vector))
    dense = np.zeros(size)
    for row, query in zip(scores, queries, strict=True):
        dense[query.indices] = query.values
        row[filled] = np.add.reduceat(weights * dense[columns], starts)
        dense[query.indices] = 0
    return scores
