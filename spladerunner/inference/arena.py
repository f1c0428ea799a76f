"""When memory that was once needed should be given back."""

from __future__ import annotations

PATIENCE = 256
"""Runs in succession that have to do with less than half before it is."""


class Demand:
    """What the runs of late needed. Threads may share it: at worst memory is given back a little sooner or later."""

    def __init__(self) -> None:
        self._most = 0
        self._runs_with_less = 0

    def has_fallen(self, needed: int) -> bool:
        """Takes a run into account. Whether, with it, PATIENCE runs in succession needed less than half the most."""
        if 2 * needed >= self._most:
            self._most = max(self._most, needed)
            self._runs_with_less = 0
            return False
        self._runs_with_less += 1
        if self._runs_with_less < PATIENCE:
            return False
        self._most, self._runs_with_less = needed, 0
        return True
