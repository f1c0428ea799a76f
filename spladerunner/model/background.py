"""Work that begins before its result is asked for, on a core that would idle."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class BackgroundCall(Generic[_T]):
    """Calls a function at once, on a thread of its own.

    concurrent.futures does so too, but takes as long to import as a small model takes to open.
    """

    def __init__(self, function: Callable[[], _T]) -> None:
        self._function = function
        self._outcome: tuple[_T] | BaseException
        self._thread = threading.Thread(target=self._run, name="spladerunner-ahead")
        self._thread.start()

    def result(self) -> _T:
        """What the function returned, once it has. Raises what it raised."""
        self._thread.join()
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome[0]

    def _run(self) -> None:
        try:
            self._outcome = (self._function(),)
        except BaseException as error:
            self._outcome = error
