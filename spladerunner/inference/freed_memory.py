"""Returns freed memory to the system.

The C library keeps what a thread has freed for that thread (glibc, mallopt(3), M_ARENA_MAX). A long text without spaces
takes half a kilobyte a character while it is tokenized, so each thread that has tokenized one would keep that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """The function of glibc; None where there is another C library."""
    import ctypes  # few texts need it

    try:
        function: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return function


def return_freed_memory() -> None:
    """Returns the memory that all threads have freed. Does nothing where the C library is not glibc."""
    if trim := _malloc_trim():
        trim(0)
