"""The vocabulary: from positions to tokens in their own spelling."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from spladerunner.vector import SparseVector


class Vocabulary:
    """The tokens that a model weighs, by position.

    tokens: the token at each position, "" where the tokenizer has none.
    carries_weight: (V,) bool; False for special tokens, as [CLS], and where there is no token.
    """

    def __init__(self, position_of: Mapping[str, int], special_ids: Iterable[int]) -> None:
        self.tokens = [""] * (max(position_of.values(), default=-1) + 1)
        self.carries_weight: NDArray[np.bool_] = np.zeros(len(self.tokens), dtype=np.bool_)
        for token, position in position_of.items():
            self.tokens[position] = token
        self.carries_weight[list(position_of.values())] = True
        self.carries_weight[list(special_ids)] = False

    def __len__(self) -> int:
        return len(self.tokens)

    def sha256(self) -> str:
        """A fingerprint: SHA-256 over the tokens in order, each followed by a NUL, in UTF-8."""
        return hashlib.sha256("".join(f"{token}\0" for token in self.tokens).encode("utf-8")).hexdigest()

    def weights(self, vector: SparseVector) -> dict[str, float]:
        """The vector as {token: weight}, heaviest first."""
        order = vector.by_weight()
        tokens = self.tokens
        return {
            tokens[index]: weight
            for index, weight in zip(vector.indices[order].tolist(), vector.values[order].tolist(), strict=True)
        }
