"""SparseVector: what a text becomes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False, slots=True, init=False)
class SparseVector:
    """The non-zero weights of a text over a vocabulary; immutable.

    indices: (n,) int32, strictly ascending positions in the vocabulary.
    values:  (n,) float32, the weight of each, finite.

    Anything that NumPy can turn into such arrays is taken.
    Raises ValueError where the two do not fit together, or the indices do not ascend.
    """

    indices: NDArray[np.int32]
    values: NDArray[np.float32]

    def __init__(self, indices: ArrayLike, values: ArrayLike) -> None:
        given = np.asarray(indices)
        if given.size and (given.dtype.kind not in "iu" or given.max() > np.iinfo(np.int32).max):
            raise ValueError(f"indices must be integers that fit into int32, not {given.dtype} up to {given.max()}")
        indices = np.array(given, dtype=np.int32)
        values = np.array(values, dtype=np.float32)
        if indices.ndim != 1 or indices.shape != values.shape:
            raise ValueError(
                f"indices and values must be one-dimensional and equally long, not {indices.shape} and {values.shape}"
            )
        if indices.size and (indices[0] < 0 or not np.all(indices[:-1] < indices[1:])):
            raise ValueError("indices must be non-negative, strictly ascending")
        if not np.all(np.isfinite(values)):
            raise ValueError("values must be finite")
        indices.flags.writeable = values.flags.writeable = False
        object.__setattr__(self, "indices", indices)
        object.__setattr__(self, "values", values)

    def __len__(self) -> int:
        """How many weights the vector holds."""
        return self.indices.size

    def __eq__(self, other: object) -> bool:
        """Bit for bit the same indices and values."""
        if not isinstance(other, SparseVector):
            return NotImplemented
        return np.array_equal(self.indices, other.indices) and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash((self.indices.tobytes(), self.values.tobytes()))

    def dot(self, other: SparseVector) -> float:
        """The inner product with another vector of the same vocabulary, summed in float64."""
        _, mine, theirs = np.intersect1d(self.indices, other.indices, assume_unique=True, return_indices=True)
        return float(np.dot(self.values[mine].astype(np.float64), other.values[theirs].astype(np.float64)))

    def by_weight(self) -> NDArray[np.intp]:
        """Positions in this vector, heaviest first; equal weights in the order of their indices. (n,)"""
        return np.argsort(-self.values, kind="stable")

    def top(self, n: int) -> SparseVector:
        """The n heaviest weights; of equal ones those with the lower index. ValueError where n is negative."""
        if n < 0:
            raise ValueError(f"top(n) needs n of 0 or more, not {n}")
        kept = np.sort(self.by_weight()[:n])
        return SparseVector(self.indices[kept], self.values[kept])

    def prune(self, min_weight: float) -> SparseVector:
        """The weights of at least min_weight."""
        kept = self.values >= np.float32(min_weight)
        return SparseVector(self.indices[kept], self.values[kept])
