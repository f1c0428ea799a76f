"""SeenIds: which ids were there already, in a few bytes each."""

from __future__ import annotations

import struct
from array import array
from hashlib import blake2b


class SeenIds:
    """A set that only grows, of 128-bit hashes in one flat table.

    An id costs 24 to 48 bytes, and 72 for the moment in which the table doubles. Two different ids are taken for one
    with a probability of n² / 2^129: for 100 million ids 1.5e-23, far below that of a flipped bit in memory.
    """

    def __init__(self) -> None:
        self._count = 0
        self._make(1 << 12)

    def add(self, name: str) -> bool:
        """Whether the id is new."""
        low, high = struct.unpack("<QQ", blake2b(name.encode(), digest_size=16).digest())
        if not self._put(low | 1, high):  # 0 marks a free slot; one bit of 128 is given for that
            return False
        self._count += 1
        if 3 * self._count > 2 * self._slots:
            self._grow()
        return True

    def _make(self, slots: int) -> None:
        self._slots = slots
        self._table = array("Q", bytes(16)) * slots

    def _put(self, low: int, high: int) -> bool:
        table, last = self._table, self._slots - 1
        slot = high & last
        while found := table[2 * slot]:
            if found == low and table[2 * slot + 1] == high:
                return False
            slot = (slot + 1) & last
        table[2 * slot], table[2 * slot + 1] = low, high
        return True

    def _grow(self) -> None:
        old = self._table
        self._make(2 * self._slots)
        for place in range(0, len(old), 2):
            if old[place]:
                self._put(old[place], old[place + 1])
