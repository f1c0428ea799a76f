"""Shard: one of several contiguous parts of the input, for array jobs."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """Part `number`, from 1, of `of` parts, whose lengths differ by one at most.

    Parts are counted in lines of all the inputs together, bad ones too, so that every part knows where it begins
    without hearing of the others. Raises ValueError where there is no such part.
    """

    number: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise ValueError(f"there is no part {self.number} of {self.of}; parts are counted from 1")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From "3/16". Raises ValueError."""
        if not re.fullmatch(r"[0-9]{1,9}/[0-9]{1,9}", text):
            raise ValueError(f"{text!r} is no part such as 3/16")
        number, of = text.split("/")
        return cls(int(number), int(of))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def lines(self, total: int) -> range:
        """The part's lines among `total`, counted from 0."""
        return range(total * (self.number - 1) // self.of, total * self.number // self.of)
