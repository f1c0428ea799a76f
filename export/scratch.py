"""Scratch folder of an export, beside its output: removed at its end, or by the next export if it was killed."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spladerunner.errors import CheckpointError
from spladerunner.export.progress import Progress, megabytes

try:
    import fcntl
except ModuleNotFoundError:  # Windows: what a killed export left stays there
    fcntl = None  # type: ignore[assignment]

_LOCK = "spladerunner-export.lock"
_FULL = 1_000_000
"""A disk with fewer free bytes is full: the tools report a failed write in their own words, or not at all."""


@contextmanager
def scratch_folder(output: Path, progress: Progress) -> Iterator[Path]:
    """Yields an empty folder beside `output`; first removes those that killed exports of the same output left.

    Raises CheckpointError in place of an error whose cause is a full disk.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{output.name}."
    _remove_abandoned(output.parent, prefix, progress)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=prefix) as name:
        scratch = Path(name)
        try:
            lock = _lock(scratch)
            try:
                yield scratch
            finally:
                os.close(lock)
        except (CheckpointError, OSError) as error:
            free = shutil.disk_usage(scratch).free
            if free >= _FULL and not (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
                raise
            raise CheckpointError(
                f"{output} cannot be written: no space is left on its disk ({megabytes(free)} free). An export needs "
                "several times the size of its checkpoint: make room, or give another folder.",
                path=output,
            ) from error


def _lock(scratch: Path) -> int:
    """Locks a file in the folder until it is closed, or the process ends in any way. It appears locked."""
    fresh = scratch / f"{_LOCK}.new"
    lock = os.open(fresh, os.O_RDWR | os.O_CREAT, 0o600)
    if fcntl:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fresh.rename(scratch / _LOCK)
    return lock


def _remove_abandoned(parent: Path, prefix: str, progress: Progress) -> None:
    for lock in parent.glob(f".*/{_LOCK}") if fcntl else ():
        if not lock.parent.name.startswith(prefix):
            continue
        try:
            file = os.open(lock, os.O_RDWR)
        except OSError:  # another export removes it, or it is another user's
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent)
            progress(f"removed {lock.parent}, which an export left that was killed")
        except BlockingIOError:
            pass  # that export is still running
        finally:
            os.close(file)
