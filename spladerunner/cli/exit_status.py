"""Exit statuses beside 0 for success, 1 for an error and 2 for a wrong call.

That of a process that a signal ends is 128 + the signal's number, as shells report it.
"""

from __future__ import annotations

import sys

DIFFERENT = 3
"""Of `spladerunner check`, if the vectors differ: an error has another status."""

INTERRUPTED = 130
PIPE_CLOSED = 141


def exit_on_signals() -> None:
    """Makes SIGTERM and SIGHUP raise SystemExit, so that temporary files are removed and locks are released.

    SIGHUP stays ignored where it is, as under nohup.
    """
    import signal  # not needed by the commands that start fastest

    for name in ("SIGTERM", "SIGHUP"):
        ends = getattr(signal, name, None)  # Windows has no SIGHUP
        if ends is not None and signal.getsignal(ends) != signal.SIG_IGN:
            signal.signal(ends, lambda number, _: sys.exit(128 + number))
