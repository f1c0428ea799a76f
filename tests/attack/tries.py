"""What an attack yields, and how its time is bounded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple


class Tried(NamedTuple):
    """A number of tries that held, or one that did not, with what happened."""

    tries: int
    failure: str | None = None


class Result(NamedTuple):
    """All tries of an attack."""

    tried: int
    failures: list[str]
    finished: bool
    """True if nothing was left to try."""


FAILURES_KEPT = 20


def run(tries: Iterator[Tried], seconds: float) -> Result:
    """Takes tries until the time is over, or there are FAILURES_KEPT failures."""
    end = time.monotonic() + seconds
    tried, failures = 0, list[str]()
    for one in tries:
        tried += one.tries
        if one.failure:
            failures.append(one.failure)
        if time.monotonic() >= end or len(failures) == FAILURES_KEPT:
            return Result(tried, failures, finished=False)
    return Result(tried, failures, finished=True)
