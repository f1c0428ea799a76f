"""Progress of a job on standard error: a bar on a terminal, otherwise a line per minute."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tqdm import tqdm

from spladerunner.bulk.job import Progress

LOG_SECONDS = 60.0


@contextmanager
def show_progress() -> Iterator[Callable[[Progress], None]]:
    """Yields the function that shows progress: a bar if standard error is a terminal, otherwise a log."""
    if not sys.stderr.isatty():
        yield _log()
        return
    columns, rows = shutil.get_terminal_size()  # tqdm draws nothing if the terminal reports a size of 0
    with tqdm(unit=" lines", mininterval=0, ncols=columns, nrows=rows) as bar:
        started = False

        def show(progress: Progress) -> None:
            nonlocal started
            if not started:
                started = True
                bar.reset(progress.total)
                bar.initial = progress.lines  # the rate counts only this process
            bar.n = progress.lines
            bar.refresh()

        yield show


def _log() -> Callable[[Progress], None]:
    start: tuple[float, int] | None = None
    last = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal start, last
        now = time.monotonic()
        if start is None:
            start = now, progress.lines
        if now - last < LOG_SECONDS:
            return
        last = now
        start_time, start_lines = start
        rate = (progress.lines - start_lines) / max(now - start_time, 1e-9)
        line = f"{progress.lines:,}" if progress.total is None else f"{progress.lines:,} of {progress.total:,}"
        line += f" lines, {rate:.1f} per second"
        if progress.total is not None and rate:
            line += f", {tqdm.format_interval((progress.total - progress.lines) / rate)} left"
        with suppress(OSError):  # nobody reads it any more
            sys.stderr.write(f"spladerunner: {line}\n")
            sys.stderr.flush()

    return show
