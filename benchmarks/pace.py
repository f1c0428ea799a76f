"""Pace of the machine: the time of fixed work, which tells quiet rounds from disturbed ones."""

from __future__ import annotations

import time

import numpy as np

LIMIT = 0.1
"""A round is disturbed if the work beside it took longer than the fastest of the process by more than this share."""

_SIZE, _PRODUCTS, _ADDITIONS = 768, 8, 1_500_000


def measure() -> float:
    """Seconds of a float32 product on all cores and of a loop of Python on one, about 0.2 s in all."""
    matrix = np.full((_SIZE, _SIZE), 0.5, dtype=np.float32)
    started = time.perf_counter()
    for _ in range(_PRODUCTS):
        matrix @ matrix
    total = 0
    for number in range(_ADDITIONS):
        total += number
    return time.perf_counter() - started


def disturbed(pace: float, fastest: float) -> bool:
    """True if the machine was slower than at its fastest by more than LIMIT.

    >>> disturbed(0.25, fastest=0.2), disturbed(0.21, fastest=0.2)
    (True, False)
    """
    return pace > fastest * (1 + LIMIT)
