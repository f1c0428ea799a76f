"""Logits to weights, in NumPy alone.

The formula is that of SPLADE-max (Formal et al., "SPLADE v2", 2021, equation 6), with the maximum taken first:

    weight_v = max_i log(1 + relu(logit_iv)) = log(1 + relu(max_i logit_iv))

log1p and relu never decrease, so both sides are the same number. The right one activates at most (B, V) numbers
instead of (B, L, V); and as relu leaves most of a vocabulary at zero, only the positive ones are activated.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from spladerunner.vector import SparseVector

Activation = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def _doubled(positive: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.log1p(np.log1p(positive))


ACTIVATIONS: dict[str, Activation] = {
    "relu": np.positive,
    "log1p_relu": np.log1p,
    "log1p_log1p_relu": _doubled,
}
"""By the name in a manifest: what makes a weight of a positive logit. The doubled logarithm is that of OpenSearch's v3
models (Shen et al., 2025, arXiv 2504.14839)."""

POOLINGS = ("max", "sum")
"""By the name in a manifest: how the tokens of a text come together. The sum is that of SPLADE's first version."""


def max_pool(logits: NDArray[np.floating], mask: NDArray[np.integer]) -> NDArray[np.float32]:
    """The largest logit of each vocabulary entry over the unmasked positions.

    logits: (B, L, V), of any float type. mask: (B, L), 0 where a position is padding.
    Returns (B, V) float32; a row whose positions are all masked is -inf. Allocates nothing of size (B, L, V).
    """
    if mask.size and mask.all():
        largest: NDArray[np.float32] = logits.max(axis=1).astype(np.float32, copy=False)
        return largest
    pooled = np.full((logits.shape[0], logits.shape[2]), -np.inf, dtype=np.float32)
    for row, positions, unmasked in zip(pooled, logits, mask, strict=True):
        for position in np.flatnonzero(unmasked):
            np.maximum(row, positions[position], out=row)
    return pooled


def sum_pool(logits: NDArray[np.floating], mask: NDArray[np.integer], activation: Activation) -> NDArray[np.float32]:
    """The sum over the unmasked positions of the activated positive logits (Formal et al., "SPLADE", 2021, equation 4).

    Shapes and types are those of max_pool; nothing of size (B, L, V) is allocated here either.
    """
    pooled = np.zeros((logits.shape[0], logits.shape[2]), dtype=np.float32)
    for row, positions, unmasked in zip(pooled, logits, mask, strict=True):
        for position in np.flatnonzero(unmasked):
            row += activation(np.maximum(positions[position], 0, dtype=np.float32))
    return pooled


def sparsify(
    pooled: NDArray[np.float32], carries_weight: NDArray[np.bool_], activation: Activation | None
) -> SparseVector:
    """The positive weights of one text.

    pooled: (V,) float32, from max_pool, or from a graph that pools inside.
    carries_weight: (V,) bool, False for entries that never do, as special tokens.
    activation: applied to the positive entries; None where that was done before.
    Raises ValueError where a number is NaN or a weight infinite: leaving it out would hide a broken graph.
    """
    if np.isnan(pooled).any():
        raise ValueError("the model's graph gave a value that is not a number (NaN)")
    indices = np.flatnonzero((pooled > 0) & carries_weight)
    values = pooled[indices]
    return SparseVector(indices, activation(values) if activation else values)
