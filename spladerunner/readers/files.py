"""Input: a file or standard input, and its lines, decompressed but not parsed."""

from __future__ import annotations

import gzip
import json
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path, PurePath
from typing import BinaryIO

from spladerunner.errors import InputError, requires_extra
from spladerunner.filesystem import is_url, open_url, resolve, size_of, without_query

KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".tsv": "tsv", ".txt": "text", ".parquet": "parquet"}
"""The kind of input by suffix."""

STDIN = "-"
_LARGEST_WINDOW = 1 << 31
"""The window of `zstd --long=31`, which large published collections have. A file takes the memory of its window."""
_BOUNDED_INPUT = 256
"""Bytes of a .zst file decompressed at once: 4 bytes can be a block of 128 KB, so these give at most 8 MB."""
_COMPRESSED = (".gz", ".zst")


@dataclass(frozen=True)
class Input:
    r"""A file of texts, or "-" for standard input.

    kind: "jsonl", "tsv", "text" or "parquet"; by default, the one that the suffix before .gz or .zst says.
    Raises InputError if the suffix is not known, or the file is Parquet and compressed.

    >>> Input("corpus.jsonl.gz").kind
    'jsonl'
    >>> Input("-", "text").name, Input("-", "text").size()
    ('standard input', None)
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "queries.txt")
    ...     _ = file.write_text("who built the bomb\nriver bank\n")
    ...     Input(str(file)).count(), list(Input(str(file)).lines())
    (2, [b'who built the bomb', b'river bank'])
    """

    path: str
    kind: str = ""

    def __post_init__(self) -> None:
        suffixes = PurePath(without_query(self.path)).suffixes
        if suffixes and suffixes[-1] in _COMPRESSED:
            suffixes.pop()
        kind = self.kind or KINDS.get(suffixes[-1] if suffixes else "", "")
        if kind not in KINDS.values():
            unknown = f"has the unknown kind {self.kind!r}" if self.kind else "has no suffix that says its kind"
            raise InputError(
                f"{self.name} {unknown}. Give one with --input-format: jsonl, tsv, text or parquet; or use a known "
                f"suffix: {', '.join(KINDS)}, also before {' or '.join(_COMPRESSED)}.",
                path=self.path,
            )
        if kind == "parquet" and (self.path == STDIN or without_query(self.path).endswith(_COMPRESSED)):
            raise InputError(
                f"{self.name}: Parquet can be read only from an uncompressed file. Give such a file.", path=self.path
            )
        object.__setattr__(self, "kind", kind)

    @property
    def name(self) -> str:
        """The path, or "standard input", for messages."""
        return "standard input" if self.path == STDIN else self.path

    def size(self) -> int | None:
        """Size in bytes; None for standard input and pipes, which can be read only once."""
        if self.path == STDIN:
            return None
        if is_url(self.path):
            return size_of(self.path)
        status = Path(self.path).stat()
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def lines(self, columns: Iterable[str | None] = (), skip: int = 0, offset: int = 0) -> Iterator[bytes]:
        r"""Reads each line without its \n or \r\n; of a Parquet row, the given columns as a JSON object.

        skip: lines that are left out. offset: the bytes that they take, if they need not be read.
        Raises InputError if the file is damaged, MissingExtraError if a package is missing, and OSError.
        """
        if self.kind == "parquet":
            yield from _parquet_rows(self.path, columns, skip)
        elif self.path == STDIN:
            yield from islice(_without_line_ends(sys.stdin.buffer), skip, None)
        else:
            with _opened(self.path) as file:
                if offset:
                    file.seek(offset)
                try:
                    lines = _without_line_ends(_decompressed(file, without_query(self.path)))
                    yield from islice(lines, 0 if offset else skip, None)
                except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                    raise _damaged(self.path, error) from error

    def offsets(self) -> Iterator[int]:
        r"""The byte at which each line begins; 0 for each line of a compressed or Parquet file.

        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "queries.txt")
        ...     _ = file.write_text("who built the bomb\nriver bank\n")
        ...     list(Input(str(file)).offsets())
        [0, 19]
        """
        if self.kind == "parquet" or without_query(self.path).endswith(_COMPRESSED):
            yield from repeat(0, self.count())
            return
        offset = 0
        with _opened(self.path) as file:
            for line in file:
                yield offset
                offset += len(line)

    def count(self) -> int:
        """Counts lines or rows. Reads the whole file; of a Parquet file, only the footer."""
        if self.kind == "parquet":
            return int(_parquet_file(self.path).metadata.num_rows)
        return sum(1 for _ in self.lines())


def _opened(path: str) -> BinaryIO:
    return open_url(path) if is_url(path) else Path(path).open("rb")


def _damaged(path: str, error: Exception) -> InputError:
    return InputError(f"{path} is damaged or incomplete: {error}. Get the file again.", path=path)


def _without_line_ends(lines: Iterable[bytes]) -> Iterator[bytes]:
    for line in lines:
        yield line.removesuffix(b"\n").removesuffix(b"\r")


def _decompressed(file: BinaryIO, path: str) -> Iterable[bytes]:
    if path.endswith(".gz"):
        return gzip.open(file)
    return _lines_of(_zstd_chunks(file)) if path.endswith(".zst") else file


def _zstd_chunks(file: BinaryIO) -> Iterator[bytes]:
    """Decompresses frame by frame, because zstandard's own readers accept a truncated file."""
    with requires_extra("zstd", "Reading .zst files"):
        import zstandard
    new_frame = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW).decompressobj
    frame, complete = new_frame(), True
    try:
        while data := file.read(_BOUNDED_INPUT):
            while data:
                if frame.eof:
                    frame = new_frame()
                yield frame.decompress(data)
                data, complete = frame.unused_data, frame.eof
    except zstandard.ZstdError as error:
        raise EOFError(str(error)) from error
    if not complete:
        raise EOFError("the last frame is truncated")


def _lines_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    parts: list[bytes] = []
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        parts.append(first)
        for line in others:
            yield b"".join(parts)
            parts = [line]
    if rest := b"".join(parts):
        yield rest


def _parquet_file(path: str):  # type: ignore[no-untyped-def]
    with requires_extra("parquet", "Reading Parquet files"):
        from pyarrow import ArrowInvalid, parquet
    filesystem, found = resolve(path)
    try:
        return parquet.ParquetFile(found, filesystem=filesystem)
    except ArrowInvalid as error:
        raise InputError(f"{path} is not a Parquet file: {error}. Give another --input-format.", path=path) from error


def _parquet_rows(path: str, columns: Iterable[str | None], skip: int = 0) -> Iterator[bytes]:
    from pyarrow import ArrowException

    file = _parquet_file(path)
    found = [name for name in columns if name in file.schema_arrow.names]
    if not found:
        raise InputError(
            f"{path} has the columns {file.schema_arrow.names}, but none of {list(columns)}. Give the names with "
            "--id-field, --title-field and --text-field.",
            path=path,
        )
    try:
        with file:
            groups = list(range(file.num_row_groups))
            while groups and skip >= (rows := file.metadata.row_group(groups[0]).num_rows):
                skip -= rows
                groups.pop(0)
            for batch in file.iter_batches(batch_size=1024, columns=found, row_groups=groups):
                for row in batch.slice(skip).to_pylist():
                    yield json.dumps(row, default=_as_json).encode()
                skip = max(skip - batch.num_rows, 0)
    except (ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _as_json(value: object) -> object:
    """Decodes bytes as text; other values become objects, which the parser rejects as an id or a text."""
    try:
        return value.decode() if isinstance(value, bytes) else {type(value).__name__: repr(value)}
    except UnicodeDecodeError:
        return {"bytes": repr(value)}
