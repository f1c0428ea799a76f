"""An input and its lines as they stand in the file, whatever its compression; not yet understood."""

from __future__ import annotations

import gzip
import json
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from spladerunner.errors import InputError, MissingExtraError

KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".tsv": "tsv", ".txt": "text", ".parquet": "parquet"}
"""The kind of input that a suffix tells."""

STDIN = "-"
_CHUNK = 1 << 20
_COMPRESSED = (".gz", ".zst")


@dataclass(frozen=True)
class Input:
    """A file of texts, or "-" for standard input.

    kind: "jsonl", "tsv", "text" or "parquet"; unless given, what the suffix tells, before .gz or .zst.
    Raises InputError where the suffix tells nothing.
    """

    path: str
    kind: str = ""

    def __post_init__(self) -> None:
        suffixes = PurePath(self.path).suffixes
        if suffixes and suffixes[-1] in _COMPRESSED:
            suffixes.pop()
        told = self.kind or KINDS.get(suffixes[-1] if suffixes else "", "")
        if told not in KINDS.values():
            raise InputError(
                f"{self.name} does not tell by its suffix what it holds; known are {', '.join(KINDS)}, also with "
                f"{' or '.join(_COMPRESSED)}. Say it: --input-format jsonl, tsv, text or parquet"
            )
        if told == "parquet" and (self.path == STDIN or self.path.endswith(_COMPRESSED)):
            raise InputError(f"{self.name}: Parquet is read from an uncompressed file alone. Give such a file.")
        object.__setattr__(self, "kind", told)

    @property
    def name(self) -> str:
        """As errors call it."""
        return "standard input" if self.path == STDIN else self.path

    def size(self) -> int | None:
        """In bytes; None for what can be read only once: standard input, and pipes."""
        if self.path == STDIN:
            return None
        status = Path(self.path).stat()
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def lines(self, columns: Iterable[str] = ()) -> Iterator[bytes]:
        r"""Each line without its \n or \r\n; a Parquet row as a JSON object of those of the columns that it has.

        Raises InputError where the file is damaged, MissingExtraError where a package is missing, and OSError.
        """
        if self.kind == "parquet":
            yield from _parquet_rows(self.path, columns)
        elif self.path == STDIN:
            yield from _ended(sys.stdin.buffer)
        else:
            with Path(self.path).open("rb") as file:
                try:
                    yield from _ended(_uncompressed(file, self.path))
                except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                    raise InputError(f"{self.path} is damaged or cut off: {error}. Fetch it again.") from error

    def count(self) -> int:
        """How many lines or rows it has. Reads the file once, a Parquet file's footer alone."""
        if self.kind == "parquet":
            return int(_parquet_file(self.path).metadata.num_rows)
        return sum(1 for _ in self.lines())


def _ended(lines: Iterable[bytes]) -> Iterator[bytes]:
    for line in lines:
        yield line.removesuffix(b"\n").removesuffix(b"\r")


def _uncompressed(file: BinaryIO, path: str) -> Iterable[bytes]:
    if path.endswith(".gz"):
        return gzip.open(file)
    return _split(_zstd_chunks(file)) if path.endswith(".zst") else file


def _zstd_chunks(file: BinaryIO) -> Iterator[bytes]:
    """By hand, because zstandard's own readers take a cut-off file for a whole one."""
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtraError("Reading .zst needs: pip install 'spladerunner[zstd]'") from error
    frame = zstandard.ZstdDecompressor().decompressobj()
    whole = True
    try:
        while data := file.read(_CHUNK // 8):
            while data:
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                yield frame.decompress(data)
                data, whole = frame.unused_data, frame.eof
    except zstandard.ZstdError as error:
        raise EOFError(str(error)) from error
    if not whole:
        raise EOFError("the last frame has no end")


def _split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    begun: list[bytes] = []
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        begun.append(first)
        for line in others:
            yield b"".join(begun)
            begun = [line]
    if rest := b"".join(begun):
        yield rest


def _parquet_file(path: str):  # type: ignore[no-untyped-def]
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError as error:
        raise MissingExtraError("Reading Parquet needs: pip install 'spladerunner[parquet]'") from error
    try:
        return parquet.ParquetFile(path)
    except ArrowInvalid as error:
        raise InputError(f"{path} is no Parquet file: {error}") from error


def _parquet_rows(path: str, columns: Iterable[str]) -> Iterator[bytes]:
    from pyarrow import ArrowException

    file = _parquet_file(path)
    found = [name for name in columns if name in file.schema_arrow.names]
    if not found:
        raise InputError(f"{path} has the columns {file.schema_arrow.names}, and none of {list(columns)}.")
    try:
        with file:
            for batch in file.iter_batches(batch_size=1024, columns=found):
                for row in batch.to_pylist():
                    yield json.dumps(row, default=_as_json).encode()
    except (ArrowException, OSError) as error:
        raise InputError(f"{path} is damaged or cut off: {error}. Fetch it again.") from error


def _as_json(value: object) -> object:
    """Text that the file has as bytes, as text; anything else as an object, which is neither an id nor a text."""
    try:
        return value.decode() if isinstance(value, bytes) else {type(value).__name__: repr(value)}
    except UnicodeDecodeError:
        return {"bytes": repr(value)}
