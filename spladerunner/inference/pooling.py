"""Turns logits into weights, with NumPy.

A masked-LM head gives a logit for each vocabulary entry at each position. The formula is SPLADE-max (Formal et al.,
"SPLADE v2", 2021, equation 6), with the maximum taken first:

    weight_v = max_i log(1 + relu(logit_iv)) = log(1 + relu(max_i logit_iv))

log1p and relu never decrease, so the two are equal. The second activates at most (B, V) numbers instead of (B, L, V),
and only the positive ones, as relu makes most of a vocabulary zero.

A token head, as BGE-M3 has it (Chen et al., 2024, arXiv 2402.03216), gives one logit at each position, for the token
there. The weight of a token is the largest of its positions, and no other token has one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from spladerunner.vector import SparseVector

if TYPE_CHECKING:  # numpy.typing is slow to import
    from numpy.typing import NDArray

Activation = Callable[["NDArray[np.float32]"], "NDArray[np.float32]"]


def _doubled(positive: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.log1p(np.log1p(positive))


ACTIVATIONS: dict[str, Activation] = {
    "relu": np.positive,
    "log1p_relu": np.log1p,
    "log1p_log1p_relu": _doubled,
}
"""Functions from a positive logit to a weight, by their name in a manifest. OpenSearch's v3 models take the logarithm
twice (Shen et al., 2025, arXiv 2504.14839)."""

POOLINGS = ("max", "sum")
"""Names in a manifest of the ways to pool the tokens of a text. The first version of SPLADE took the sum."""

HEADS = {"masked_lm": POOLINGS, "token": ("max",)}
"""Names in a manifest of what a graph gives at each position, a logit for each vocabulary entry, or one for the token
there; and the poolings of each."""


def max_pool(logits: NDArray[np.floating], mask: NDArray[np.integer]) -> NDArray[np.float32]:
    """The largest logit of each vocabulary entry over the unmasked positions.

    logits: (B, L, V), of any float type. mask: (B, L), 0 at padding.
    Returns (B, V) float32; a row of padding alone is -inf. Allocates nothing of size (B, L, V).

    >>> max_pool(np.array([[[1.0, -2.0], [0.5, 3.0]]]), np.array([[1, 1]]))
    array([[1., 3.]], dtype=float32)
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
    """The sum of the activated positive logits over the unmasked positions (Formal et al., "SPLADE", 2021, equation 4).

    Shapes and types are those of max_pool. Allocates nothing of size (B, L, V).
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
    carries_weight: (V,) bool, False for special tokens.
    activation: applied to the positive entries; None if they are weights already.
    Raises ValueError if a number is NaN or a weight infinite: to skip it would hide a defective graph.
    """
    if np.isnan(pooled).any():
        raise ValueError("the output of the graph contains NaN")
    indices = np.flatnonzero((pooled > 0) & carries_weight)
    values = pooled[indices]
    return SparseVector(indices, activation(values) if activation else values)


def sparsify_tokens(
    logits: NDArray[np.floating], ids: NDArray[np.integer], carries_weight: NDArray[np.bool_], activation: Activation
) -> SparseVector:
    """The positive weights of one text by a token head: for each token, the largest of its positions.

    logits: (L,), of any float type. ids: (L,), the token at each position. carries_weight, activation: as in sparsify.
    Raises ValueError if a logit is NaN or a weight infinite. Allocates nothing of the size of the vocabulary.

    >>> vector = sparsify_tokens(np.array([9.0, 0.5, 2.0]), np.array([0, 3, 3]), np.arange(4) > 0, np.positive)
    >>> vector.indices.tolist(), vector.values.tolist()
    ([3], [2.0])
    """
    if np.isnan(logits).any():
        raise ValueError("the output of the graph contains NaN")
    tokens, place = np.unique(ids, return_inverse=True)
    largest = np.full(tokens.size, -np.inf, dtype=np.float32)
    np.maximum.at(largest, place, logits.astype(np.float32, copy=False))
    chosen = (largest > 0) & carries_weight[tokens]
    return SparseVector(tokens[chosen], activation(largest[chosen]))


def sparsify_rows(weights: NDArray[np.floating], carries_weight: NDArray[np.bool_]) -> list[SparseVector]:
    """The positive weights of each text of a batch.

    weights: (B, V) float16 or float32, from a graph that pools inside. carries_weight: as in sparsify.
    Raises ValueError if a weight is not finite.

    >>> sparsify_rows(np.array([[0, 0.5], [2, 1]], np.float16), np.array([True, True]))[1].values.tolist()
    [2.0, 1.0]
    """
    if weights.dtype == np.float16:  # NumPy converts each to float32 to compare it; its bits order as integers do
        bits = weights.view(np.int16)
        positive, finite = bits > 0, (bits & 0x7FFF) < 0x7C00
    else:
        positive, finite = weights > 0, np.isfinite(weights)
    if not finite.all():
        raise ValueError("the output of the graph contains numbers that are not finite")
    positive &= carries_weight
    vectors = []
    for row, chosen in zip(weights, positive, strict=True):
        indices = np.flatnonzero(chosen)
        vectors.append(SparseVector(indices, row[indices]))
    return vectors
