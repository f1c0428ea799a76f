"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], text: str | Iterable[str]) -> None:
    """Writes a text, or its parts one after another, in UTF-8 under a temporary name beside `path`, then renames it.

    What is no file, such as /dev/stdout, is written to as it is. Raises OSError where it cannot be written; a file
    that stood at `path` is then untouched.
    """
    parts = [text] if isinstance(text, str) else text
    if Path(path).exists() and not Path(path).is_file():
        with Path(path).open("w", encoding="utf-8", newline="\n") as device:
            device.writelines(parts)
        return
    whole = Path(os.path.realpath(path))
    temporary = whole.with_name(f".{whole.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(whole)
    finally:
        temporary.unlink(missing_ok=True)
