"""Writes files atomically."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], text: str | Iterable[str]) -> None:
    """Writes a text, or its parts in order, as UTF-8 under a temporary name in the same folder, then renames the file.

    Devices and pipes, such as /dev/stdout, are written to directly. Raises OSError if the file cannot be written; an
    existing file is then unchanged.
    """
    parts = [text] if isinstance(text, str) else text
    if Path(path).exists() and not Path(path).is_file():
        with Path(path).open("w", encoding="utf-8", newline="\n") as device:
            device.writelines(parts)
        return
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
