"""The vocabulary: from positions to tokens, in a spelling that people read and search engines store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from spladerunner.model.integrity import digest_of_text
from spladerunner.vector import SparseVector

SPACE = "▁"
"""What stands for a leading space, as in SentencePiece's vocabularies."""


class Vocabulary:
    """The tokens that a model weighs, by position.

    tokens: the token at each position, "" where the tokenizer has none. It is the vocabulary's own spelling, but for
        byte-level vocabularies, whose spelling of bytes by stand-in characters is undone wherever the bytes are
        printable text that no other token has; a leading space becomes "▁".
    carries_weight: (V,) bool; False for special tokens, as [CLS], and where there is no token.
    sha256: a fingerprint over the vocabulary's own spelling in order, each token followed by a NUL, in UTF-8.
    """

    def __init__(self, tokens: Sequence[str], special_ids: Iterable[int], *, byte_level: bool = False) -> None:
        self.carries_weight: NDArray[np.bool_] = np.ones(len(tokens), dtype=np.bool_)
        if "" in tokens:
            self.carries_weight[[at for at, token in enumerate(tokens) if not token]] = False
        self.carries_weight[list(special_ids)] = False
        self.sha256 = digest_of_text("\0".join([*tokens, ""]))
        self.tokens = _readable(tokens) if byte_level else list(tokens)

    def __len__(self) -> int:
        return len(self.tokens)

    def weights(self, vector: SparseVector) -> dict[str, float]:
        """The vector as {token: weight}, heaviest first."""
        order = vector.by_weight()
        tokens = self.tokens
        return {
            tokens[index]: weight
            for index, weight in zip(vector.indices[order].tolist(), vector.values[order].tolist(), strict=True)
        }

    def vector(self, weights: Mapping[str, float]) -> SparseVector:
        """The inverse of `weights`. Raises ValueError at a token that is not in the vocabulary."""
        weight_at = {self.position(token): weight for token, weight in weights.items()}
        indices = sorted(weight_at)
        return SparseVector(indices, [weight_at[index] for index in indices])

    def position(self, token: str) -> int:
        """Where the token is. Raises ValueError where it is not in the vocabulary."""
        try:
            return self._position_of[token]
        except KeyError:
            raise ValueError(f"{token!r} is no token of this vocabulary: the weights are another model's") from None

    @cached_property
    def _position_of(self) -> dict[str, int]:
        return {token: position for position, token in enumerate(self.tokens) if token}


def _readable(tokens: Sequence[str]) -> list[str]:
    """Byte-level tokens with their bytes decoded. A token stays as it is where another would get its spelling."""
    byte_of = _byte_alphabet()
    taken = set(tokens)
    readable = []
    for token in tokens:
        spelling = _decoded(token, byte_of)
        if spelling in taken:
            spelling = token
        taken.add(spelling)
        readable.append(spelling)
    return readable


def _decoded(token: str, byte_of: Mapping[str, int]) -> str:
    try:
        text = bytes(byte_of[character] for character in token).decode("utf-8")
    except (KeyError, UnicodeDecodeError):  # an added token, or a part of a character
        return token
    spelling = SPACE + text[1:] if text.startswith(" ") else text
    return spelling if spelling.isprintable() and " " not in spelling else token


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's stand-in character for each byte: itself where it is printable Latin-1, else one from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + at): byte for at, byte in enumerate(others)}
