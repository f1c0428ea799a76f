"""Progress lines of an export: a line after each conversion, pass and verification."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from spladerunner.errors import CheckpointError, SpladeRunnerError
from spladerunner.model.manifest import RoleName

Progress = Callable[[str], None]
"""Receives a line without its end."""


@dataclass
class Stage:
    """Result of a part of an export. size: bytes of the graph. unchanged: by a pass. note: a second line."""

    size: int | None = None
    unchanged: bool = False
    note: str = ""


@contextmanager
def stage(progress: Progress, name: str, role: RoleName) -> Iterator[Stage]:
    """Times a part of an export, and reports it.

    Raises CheckpointError with its name if a tool that it uses fails.
    """
    done = Stage()
    started = time.perf_counter()
    try:
        yield done
    except (SpladeRunnerError, OSError, KeyboardInterrupt):
        raise
    except Exception as error:  # the tools share no narrower type
        raise CheckpointError(f"'{name}' of the {role} model failed: {type(error).__name__}: {error}") from error
    size = "" if done.size is None else megabytes(done.size)
    seconds = time.perf_counter() - started
    progress(f"{name:<14} {role:<6} {size:>9} {seconds:6.1f} s{', unchanged' if done.unchanged else ''}")
    if done.note:
        progress(f"  {done.note}")


def megabytes(size: int) -> str:
    """Formats a size in bytes.

    Examples:
        >>> megabytes(5_772_440)
        '5.8 MB'
    """
    return f"{size / 1e6:.1f} MB"
