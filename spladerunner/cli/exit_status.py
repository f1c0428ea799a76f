"""Exit statuses of a process that a signal ends, as shells report them: 128 + the signal's number."""

from __future__ import annotations

import sys

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
