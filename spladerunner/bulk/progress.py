"""How far an encoding is: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from spladerunner.bulk.job import Done

LOG_SECONDS = 60.0


@contextmanager
def shown() -> Iterator[Callable[[Done], None]]:
    """What encode tells its progress to, by what standard error is."""
    if not sys.stderr.isatty():
        yield _log()
        return
    columns, rows = shutil.get_terminal_size()  # tqdm draws nothing where a terminal calls itself empty
    with tqdm(unit=" documents", mininterval=0, ncols=columns, nrows=rows) as bar:
        begun = False

        def show(done: Done) -> None:
            nonlocal begun
            if not begun:
                begun = True
                bar.reset(done.total)
                bar.initial = done.lines  # so that the rate counts this run alone
            bar.n = done.lines
            bar.refresh()

        yield show


def _log() -> Callable[[Done], None]:
    started: list[tuple[float, int]] = []
    told = time.monotonic()

    def show(done: Done) -> None:
        nonlocal told
        now = time.monotonic()
        if not started:
            started.append((now, done.lines))
        if now - told < LOG_SECONDS:
            return
        told = now
        begun, before = started[0]
        rate = (done.lines - before) / max(now - begun, 1e-9)
        line = f"{done.lines:,}" if done.total is None else f"{done.lines:,} of {done.total:,}"
        line += f" documents, {rate:.1f} a second"
        if done.total is not None and rate:
            line += f", {tqdm.format_interval((done.total - done.lines) / rate)} left"
        sys.stderr.write(f"spladerunner: {line}\n")
        sys.stderr.flush()

    return show
