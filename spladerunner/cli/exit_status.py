"""Exit statuses of a process that a signal ends, as shells report them: 128 + the signal's number."""

from __future__ import annotations

import sys

INTERRUPTED = 130
PIPE_CLOSED = 141
TERMINATED = 143


def exit_on_sigterm() -> None:
    """Makes SIGTERM raise SystemExit, so that temporary files are removed and locks are released."""
    import signal  # not needed by the commands that start fastest

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
