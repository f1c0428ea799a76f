"""Reads the files of a model: regular files, inside the model's folder, and no longer than they may be."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
"""A FIFO is opened without waiting for a writer, and then refused."""


def open_regular(path: Path) -> int:
    """Opens a file and returns its descriptor. Raises ValueError if it is a folder, a pipe or a device, or OSError."""
    descriptor = os.open(path, _FLAGS)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise ValueError("it is not a regular file, but a folder, a pipe or a device")


def is_there(path: Path) -> bool:
    """True if a folder has such an entry, whatever it is: a link that leads nowhere is not taken for absent."""
    return os.path.lexists(path)


def read_content(path: Path, limit: int) -> bytes:
    """The content of a regular file. Raises ValueError, before it reads, if it is longer than `limit`, or OSError."""
    with os.fdopen(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise ValueError(f"it has {size} bytes, and such a file at most {limit}")
        return file.read(size)


def is_inside(name: str) -> bool:
    """True if a relative name, with "/" between its parts, leads to no place outside its folder.

    It is judged by its letters: files in the Hub's cache are links.

    >>> is_inside("onnx/model.onnx_data"), is_inside("../model.onnx_data")
    (True, False)
    """
    pure = PurePosixPath(name)
    return not (pure.is_absolute() or ".." in pure.parts or any(character in name for character in "\\:\0"))
