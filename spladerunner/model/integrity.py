"""SHA-256 of texts and files, and their check while a model is opened."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from mmap import mmap
from pathlib import Path

_CHUNK = 1 << 20


def digest_of_text(text: str) -> str:
    """SHA-256 of the text in UTF-8, as hex."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def digest(content: bytes | mmap) -> str:
    """SHA-256 of the content of a file, as hex."""
    return hashlib.sha256(content).hexdigest()


def digest_of_file(path: Path) -> str:
    """SHA-256 of the file, as hex. Raises OSError if it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def digest_by_length(path: Path, length: int) -> str | None:
    """The digest of a file that has that many hexadecimal digits: 64 for SHA-256, 40 for git's SHA-1 of a blob."""
    if length == 64:
        return digest_of_file(path)
    if length != 40:
        return None
    content = path.read_bytes()  # git has only small files
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class BackgroundCall:
    """Context manager that makes a call on another thread, and at its end raises what that raised.

    So files are hashed while they are opened. The call's error replaces one raised within the context: it tells more
    about a damaged file than the library that failed to open it. concurrent.futures would do the same, but takes as
    long to import as a small model takes to open.
    """

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="spladerunner-background")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            self._call()
        except BaseException as error:
            self._error = error
