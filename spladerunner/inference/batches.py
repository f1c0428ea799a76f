"""Batches for devices that gain from them: texts of similar length, padded to one of a few lengths.

Texts are taken in advance within a bounded look-ahead, sorted by length and grouped, so that little is padding and
kernels are reused for the same shapes. Vectors come back in the order of the texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from spladerunner.inference.scheduler import run_in_order
from spladerunner.inference.tokenizer import TokenizedText
from spladerunner.vector import SparseVector

if TYPE_CHECKING:  # numpy.typing is slow to import
    from numpy.typing import NDArray

Tokenized = TypeVar("Tokenized")

PADDED_LENGTHS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Lengths to which texts are padded; longer texts to a multiple of the last."""

MOST_TOKENS = 32_768
"""Tokens of a run that fill any card of today: 256 texts of 128."""

MOST_TEXTS = 512
"""Texts of a run: it writes a weight for each and each vocabulary entry, 31 MB for that of BERT in float16."""

WORKERS = 3
"""Batches under way: one runs, one becomes vectors, one waits."""

TOKENS_IN_FLIGHT = 4 * MOST_TOKENS
"""Default of tokens_in_flight on a device: some batches run or wait, and others are being grouped."""

CHUNK = 256
"""Texts that are tokenized together."""


class Batch(NamedTuple):
    """Texts of one padded length.

    places: of the texts in the stream. content_tokens: of each text, without special ones.
    ids, mask, type_ids: (B, L) int64; mask is 0 at padding.
    """

    places: tuple[int, ...]
    content_tokens: tuple[int, ...]
    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    type_ids: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[tuple[int, TokenizedText]], length: int) -> Batch:
        """Pads texts, with their places, to a length."""
        ids, mask, type_ids = (np.zeros((len(texts), length), dtype=np.int64) for _ in range(3))
        for row, (_, text) in enumerate(texts):
            size = text.ids.size
            ids[row, :size], mask[row, :size], type_ids[row, :size] = text.ids[0], text.mask[0], text.type_ids[0]
        return cls(
            tuple(place for place, _ in texts), tuple(text.content_tokens for _, text in texts), ids, mask, type_ids
        )

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> Batch:
        """The texts of batches of one length, in order."""
        if len(batches) == 1:
            return batches[0]
        places, content_tokens = (tuple(chain.from_iterable(each)) for each in [*zip(*batches, strict=True)][:2])
        ids, mask, type_ids = map(np.concatenate, [*zip(*batches, strict=True)][2:])
        return cls(places, content_tokens, ids, mask, type_ids)

    @property
    def tokens(self) -> int:
        """Tokens that a run takes, padding included."""
        return self.ids.size

    def halves(self) -> tuple[Batch, Batch]:
        """The first and the second half of the texts."""
        middle = (len(self.places) + 1) // 2
        return self._rows(slice(middle)), self._rows(slice(middle, None))

    def _rows(self, rows: slice) -> Batch:
        return Batch(self.places[rows], self.content_tokens[rows], self.ids[rows], self.mask[rows], self.type_ids[rows])


class TokenBudget:
    """Tokens of a run at most, padding included. Threads may share it."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def lower_to(self, tokens: int) -> None:
        """Lowers the budget, if it is higher."""
        self.tokens = min(self.tokens, tokens)


def padded_length(tokens: int, max_length: int) -> int:
    """The length to which a text of this many tokens is padded, at most max_length.

    >>> [padded_length(tokens, 512) for tokens in (3, 16, 17, 400)]
    [16, 16, 32, 512]
    >>> padded_length(20, max_length=24), padded_length(700, max_length=8192)
    (24, 1024)
    """
    longest = PADDED_LENGTHS[-1]
    multiple = -(-tokens // longest) * longest
    return min(next((length for length in PADDED_LENGTHS if length >= tokens), multiple), max_length)


def group(texts: Iterable[tuple[int, TokenizedText]], tokens: int, max_length: int) -> Iterator[Batch]:
    """Groups texts, with their places, into batches of at most this many tokens, and of MOST_TEXTS.

    Texts of one padded length are grouped, the longest first. A text of more tokens is alone.
    """
    by_length: dict[int, list[tuple[int, TokenizedText]]] = {}
    for place, text in texts:
        by_length.setdefault(padded_length(text.ids.size, max_length), []).append((place, text))
    for length in sorted(by_length, reverse=True):
        alike, size = by_length[length], min(max(tokens // length, 1), MOST_TEXTS)
        for start in range(0, len(alike), size):
            yield Batch.of(alike[start : start + size], length)


def tokenize_ahead(texts: Iterable[str], tokenize: Callable[[str], Tokenized], threads: int) -> Iterator[Tokenized]:
    """Yields tokenize(text) for each text, in order, CHUNK of them at a time on several threads.

    A device is faster than one thread can tokenize.
    """
    from concurrent.futures import ThreadPoolExecutor  # runs on CPUs start without

    source = iter(texts)
    with ThreadPoolExecutor(threads, thread_name_prefix="spladerunner-tokenizer") as executor:
        failure: Exception | None = None
        while failure is None:
            chunk: list[str] = []
            try:
                chunk.extend(islice(source, CHUNK))
            except Exception as error:  # the texts before the error still get their vectors
                failure = error
            if not chunk and failure is None:
                return
            yield from executor.map(tokenize, chunk)
    raise failure


def run_in_batches(
    texts: Iterable[TokenizedText],
    run: Callable[[Batch], Sequence[SparseVector]],
    *,
    budget: TokenBudget,
    max_length: int,
    threads: int,
    tokens_in_flight: int,
) -> Iterator[SparseVector]:
    """Yields the vector of each text, in the order of the texts, from runs of batches on up to `threads` threads.

    run: gives a vector for each text of a batch. At most tokens_in_flight tokens, padding included, are under way, and
    as many are taken in advance to be grouped.
    """
    batches = _batches(texts, budget, max_length, tokens_in_flight)
    waiting: dict[int, SparseVector] = {}
    following = 0

    def run_with_places(batch: Batch) -> tuple[tuple[int, ...], Sequence[SparseVector]]:
        return batch.places, run(batch)

    for places, vectors in run_in_order(batches, run_with_places, threads=threads, tokens_in_flight=tokens_in_flight):
        waiting.update(zip(places, vectors, strict=True))
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def _batches(texts: Iterable[TokenizedText], budget: TokenBudget, max_length: int, ahead: int) -> Iterator[Batch]:
    taken: list[tuple[int, TokenizedText]] = []
    tokens = 0
    try:
        for place, text in enumerate(texts):
            taken.append((place, text))
            tokens += padded_length(text.ids.size, max_length)
            if tokens >= ahead:
                yield from group(taken, budget.tokens, max_length)
                taken, tokens = [], 0
    except Exception:
        yield from group(taken, budget.tokens, max_length)  # the texts before the error still get their vectors
        raise
    yield from group(taken, budget.tokens, max_length)
