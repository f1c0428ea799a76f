"""The vocabulary: tokens by position, spelled so that people can read them and search engines can store them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from spladerunner.vector import SparseVector

if TYPE_CHECKING:  # numpy.typing is slow to import
    from numpy.typing import NDArray

SPACE = "▁"
"""Marks a leading space, as in SentencePiece's vocabularies."""


class Vocabulary:
    """The tokens that a model weighs, by position.

    tokens: the token at each position, "" at a gap. Byte-level vocabularies spell bytes with substitute characters;
        these are decoded if the bytes are printable text that no other token has, and a leading space becomes "▁".
        Other vocabularies keep their spelling.
    carries_weight: (V,) bool; False for special tokens, such as [CLS], and for gaps.
    sha256: SHA-256, as hex, over the tokenizer's spelling in order, each token followed by NUL, in UTF-8.

    >>> vocabulary = Vocabulary(["[CLS]", "river", "bank"], special_ids=[0])
    >>> len(vocabulary), vocabulary.tokens[2], vocabulary.carries_weight.tolist()
    (3, 'bank', [False, True, True])
    """

    def __init__(self, tokens: Sequence[str], special_ids: Iterable[int], *, byte_level: bool = False) -> None:
        self.carries_weight: NDArray[np.bool_] = np.ones(len(tokens), dtype=np.bool_)
        if "" in tokens:
            self.carries_weight[[at for at, token in enumerate(tokens) if not token]] = False
        self.carries_weight[list(special_ids)] = False
        self.sha256 = hashlib.sha256("\0".join([*tokens, ""]).encode("utf-8")).hexdigest()
        self.tokens = _readable(tokens) if byte_level else list(tokens)
        self._positions: dict[str, int] | None = None

    def __len__(self) -> int:
        """The number of positions."""
        return len(self.tokens)

    def weights(self, vector: SparseVector) -> dict[str, float]:
        """The vector as {token: weight}, heaviest first.

        >>> Vocabulary(["[CLS]", "river", "bank"], [0]).weights(SparseVector([1, 2], [0.5, 2.0]))
        {'bank': 2.0, 'river': 0.5}
        """
        order = vector.by_weight()
        tokens = self.tokens
        return {
            tokens[index]: weight
            for index, weight in zip(vector.indices[order].tolist(), vector.values[order].tolist(), strict=True)
        }

    def vector(self, weights: Mapping[str, float]) -> SparseVector:
        """The inverse of `weights`. Raises ValueError if a token is not in the vocabulary.

        >>> Vocabulary(["[CLS]", "river", "bank"], [0]).vector({"bank": 2.0, "river": 0.5}).indices.tolist()
        [1, 2]
        """
        weight_at = {self.position(token): weight for token, weight in weights.items()}
        indices = sorted(weight_at)
        return SparseVector(indices, [weight_at[index] for index in indices])

    def position(self, token: str) -> int:
        """The position of a token. Raises ValueError if it is not in the vocabulary.

        >>> Vocabulary(["[CLS]", "river", "bank"], [0]).position("bank")
        2
        """
        try:
            return self._position_of[token]
        except KeyError:
            raise ValueError(
                f"{token!r} is not a token of this vocabulary. Use the vocabulary of the model that gave the weights."
            ) from None

    @property
    def _position_of(self) -> dict[str, int]:
        if self._positions is None:  # not a cached_property, whose lock a child of fork could inherit held
            self._positions = {token: position for position, token in enumerate(self.tokens) if token}
        return self._positions


def _readable(tokens: Sequence[str]) -> list[str]:
    """Byte-level tokens with their bytes decoded, unless another token has that spelling."""
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
    except (KeyError, UnicodeDecodeError):  # an added token, or part of a character
        return token
    spelling = SPACE + text[1:] if text.startswith(" ") else text
    return spelling if spelling.isprintable() and " " not in spelling else token


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's character for each byte: printable Latin-1 stands for itself, other bytes have characters from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + at): byte for at, byte in enumerate(others)}
