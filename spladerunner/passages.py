"""Long texts: how many tokens of a text are read, and the windows in which all of them are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from spladerunner.vector import SparseVector


class TokenCount(NamedTuple):
    """The tokens of a text, special tokens not counted.

    total: of the whole text. read: its first ones, which the model reads.

    >>> TokenCount(total=412, read=254).cut
    True
    """

    total: int
    read: int

    @property
    def cut(self) -> bool:
        """True if the model does not read the whole text."""
        return self.read < self.total


class Passage(NamedTuple):
    """A window of a text, and its vector.

    text: the position of the text among the texts. number: that of the window in the text, from 0.
    start, end: the positions of its tokens in the text. tokens: those of the whole text. Special tokens do not count.

    >>> from spladerunner import Expander
    >>> first, second, third = Expander(max_length=10).passages("atomic bombs and nuclear reactors " * 4, overlap=2)
    >>> [(passage.start, passage.end, passage.tokens) for passage in (first, second, third)]
    [(0, 8, 20), (6, 14, 20), (12, 20, 20)]
    """

    text: int
    number: int
    start: int
    end: int
    tokens: int
    vector: SparseVector


def windows(tokens: int, size: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Start and end of each window of `size` tokens; neighbors share `overlap`. The last may be shorter.

    >>> list(windows(10, 4, 1)), list(windows(3, 4, 1)), list(windows(0, 4, 1))
    ([(0, 4), (3, 7), (6, 10)], [(0, 3)], [(0, 0)])
    """
    start = 0
    while start + size < tokens:
        yield start, start + size
        start += size - overlap
    yield start, tokens


def joined(passages: Iterable[Passage], vocabulary_size: int) -> Iterator[Passage]:
    """Joins the windows of each text: one passage, with the maximum of their weights for each token.

    >>> one, two = SparseVector([1, 3], [0.5, 1.0]), SparseVector([3, 4], [2.0, 0.25])
    >>> whole, = joined([Passage(0, 0, 0, 4, 6, one), Passage(0, 1, 2, 6, 6, two)], 5)
    >>> whole.end, whole.vector
    (6, SparseVector(indices=array([1, 3, 4], dtype=int32), values=array([0.5 , 2.  , 0.25], dtype=float32)))
    """
    for passage in passages:
        if passage.number == 0 and passage.end == passage.tokens:
            yield passage
            continue
        if passage.number == 0:
            weights = np.zeros(vocabulary_size, dtype=np.float32)
        vector = passage.vector
        weights[vector.indices] = np.maximum(weights[vector.indices], vector.values)
        if passage.end == passage.tokens:
            indices = np.flatnonzero(weights)
            yield passage._replace(number=0, start=0, vector=SparseVector(indices, weights[indices]))
