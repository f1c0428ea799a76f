"""What an export says of its steps, as they are done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from spladerunner.errors import CheckpointError, SpladeRunnerError
from spladerunner.model.manifest import RoleName

Progress = Callable[[str], None]
"""Takes a line."""


@contextmanager
def step(progress: Progress, label: str, role: RoleName) -> Iterator[list[Path]]:
    """Times a step; a file that it puts into the list is reported with its size.

    Raises CheckpointError, with the step's name, where a tool that it uses fails.
    """
    made: list[Path] = []
    started = time.perf_counter()
    try:
        yield made
    except (SpladeRunnerError, OSError, KeyboardInterrupt):
        raise
    except Exception as error:  # whatever the tools below raise
        raise CheckpointError(
            f"The step '{label}' of the {role} model failed: {type(error).__name__}: {error}"
        ) from error
    size = megabytes(made[0].stat().st_size) if made else ""
    progress(f"{label:<12} {role:<6} {size:>9} {time.perf_counter() - started:6.1f} s")


def megabytes(size: int) -> str:
    """A size in bytes, to be read."""
    return f"{size / 1e6:.1f} MB"
