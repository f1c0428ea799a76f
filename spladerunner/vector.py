"""SparseVector: the weights of a text over a vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # numpy.typing is slow to import
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
