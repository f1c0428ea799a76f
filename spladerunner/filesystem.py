"""Files on this machine, and on any file system that PyArrow knows by its URL, such as s3://bucket/corpus.jsonl."""

from __future__ import annotations

import io
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, BinaryIO, cast

from spladerunner.errors import OutputError, requires_extra

LOCK = ".lock"


def is_url(path: str) -> bool:
    """True if a path is a URL: it begins with a scheme such as s3:// or file://.

    >>> is_url("s3://bucket/corpus.jsonl"), is_url("corpus.jsonl")
    (True, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path) is not None


def without_query(path: str) -> str:
    """A URL without the query, which holds options of the file system; a path as it is.

    >>> without_query("s3://bucket/corpus.jsonl?region=eu-west-1"), without_query("why?.jsonl")
    ('s3://bucket/corpus.jsonl', 'why?.jsonl')
    """
    return path.partition("?")[0] if is_url(path) else path


def beside(path: str, suffix: str) -> str:
    """The path or URL with a suffix after its name, before the query of a URL.

    >>> beside("s3://bucket/vectors.parquet?region=eu-west-1", ".partial")
    's3://bucket/vectors.parquet.partial?region=eu-west-1'
    """
    name = without_query(path)
    return name + suffix + path[len(name) :]


def parent_and_name(path: str) -> tuple[str, str]:
    """The folder of a file as a path or URL, and the file's name.

    >>> parent_and_name("s3://bucket/a/b?region=eu-west-1"), parent_and_name("b")
    (('s3://bucket/a?region=eu-west-1', 'b'), ('.', 'b'))
    """
    name = without_query(path)
    folder, slash, last = name.rpartition("/")
    return (folder or slash or ".") + path[len(name) :], last


def resolve(path: str) -> tuple[Any, str]:
    """The PyArrow file system of a path or URL, and the path in it. Raises OutputError for an unknown scheme."""
    with requires_extra("parquet", "Parquet and files by their URL"):
        from pyarrow import ArrowException, fs
    if not is_url(path):
        return fs.LocalFileSystem(), os.path.abspath(path)  # noqa: PTH100 - an empty path is the current folder
    try:
        filesystem, found = fs.FileSystem.from_uri(path)
    except (ArrowException, ValueError) as error:
        raise OutputError(f"PyArrow cannot open {path}: {error}. Give a URL that it knows, such as s3://.") from error
    return filesystem, found


def size_of(url: str) -> int:
    """Size in bytes of the file at a URL. Raises FileNotFoundError."""
    filesystem, path = resolve(url)
    information = filesystem.get_file_info(path)
    if not information.is_file:
        raise FileNotFoundError(f"There is no file {url}.")
    return int(information.size)


def open_url(url: str) -> BinaryIO:
    """Opens the file at a URL for reading."""
    filesystem, path = resolve(url)
    return cast(BinaryIO, io.BufferedReader(filesystem.open_input_file(path), 1 << 20))


class Folder:
    """A folder on this machine or at a URL, whose files appear whole or not at all.

    On this machine, a file is written and synced under a temporary name, then renamed. An object store shows an object
    when its upload is complete.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as path:
    ...     folder = Folder(f"{path}/new")
    ...     folder.write("a", b"content")
    ...     folder.names(), folder.read("a")
    (['a'], b'content')
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._filesystem, self._path = resolve(url)
        self._local = self._filesystem.type_name == "local"
        self._lock: int | None = None

    def path(self, name: str) -> str:
        """The path of a file in its file system."""
        return str(PurePosixPath(self._path) / name)

    def names(self) -> list[str]:
        """Names of the files, sorted; none if there is no such folder."""
        from pyarrow import fs

        found = self._filesystem.get_file_info(fs.FileSelector(self._path, allow_not_found=True))
        return sorted(each.base_name for each in found if each.is_file)

    def open(self, name: str) -> Any:
        """Opens a file for reading at any position. Raises FileNotFoundError."""
        return self._filesystem.open_input_file(self.path(name))

    def read(self, name: str) -> bytes:
        """Reads a file. Raises FileNotFoundError."""
        with self.open(name) as file:
            content: bytes = file.read()
        return content

    def write(self, name: str, content: bytes) -> None:
        """Writes a file. Raises OSError; an existing file on this machine is then unchanged."""
        with self.writing(name) as file:
            file.write(content)

    @contextmanager
    def writing(self, name: str) -> Iterator[Any]:
        """Opens a file to write, which appears under its name when the block ends."""
        if not self._local:
            try:
                with self._filesystem.open_output_stream(self.path(name)) as stream:
                    yield stream
            except BaseException:
                with suppress(OSError):
                    self._filesystem.delete_file(self.path(name))  # a stream that is closed completes its upload
                raise
            return
        folder = Path(self._path)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{name}.{uuid.uuid4().hex}"
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(folder / name)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(folder)

    def lock(self) -> None:
        """Keeps the folder for this process until it ends or calls unlock; raises BlockingIOError if another has it.

        Only on this machine: elsewhere two processes may write the same files with the same content.
        """
        if self._local:
            fcntl = file_locks(self._path)
            Path(self._path).mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path(LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.unlock()
                raise

    def unlock(self) -> None:
        """Ends a lock, if there is one."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def delete(self, *names: str) -> None:
        """Deletes files."""
        for name in names:
            self._filesystem.delete_file(self.path(name))

    def remove(self) -> None:
        """Deletes the folder with all that is in it, if it exists."""
        from pyarrow import fs

        if self._filesystem.get_file_info(self._path).type == fs.FileType.Directory:
            self._filesystem.delete_dir(self._path)


def file_locks(path: str | Path) -> ModuleType:
    """The module fcntl. Raises OutputError on a system without: two processes would write to `path` at once."""
    try:
        import fcntl
    except ModuleNotFoundError as error:
        raise OutputError(
            "Encoding files needs a POSIX system: this one has no file locks. Use Linux, macOS or WSL.", path=path
        ) from error
    return fcntl


def _sync(folder: Path) -> None:
    if os.name != "posix":
        return
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
