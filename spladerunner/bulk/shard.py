"""Shard: one of several contiguous parts of the input, for array jobs."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """Shard `number`, from 1, of `of` shards, whose lengths differ by at most one line.

    Lines of all inputs are counted together, blank and bad ones too, so that a shard's first line is known without
    parsing. Raises ValueError if the numbers do not fit.

    >>> Shard.parse("3/16").lines(100)
    range(12, 18)
    """

    number: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise ValueError(f"there is no shard {self.number} of {self.of}: the first is 1/{max(self.of, 1)}")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parses "3/16". Raises ValueError."""
        if not re.fullmatch(r"[0-9]{1,9}/[0-9]{1,9}", text):
            raise ValueError(f"{text!r} is not a shard such as 3/16")
        number, of = text.split("/")
        return cls(int(number), int(of))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def lines(self, total: int) -> range:
        """The shard's lines among `total`, counted from 0."""
        return range(total * (self.number - 1) // self.of, total * self.number // self.of)
