"""Record: an id and a text; what the lines of each kind of input mean."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike, fspath

from spladerunner.errors import InputError
from spladerunner.readers.files import Input

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Record:
    """A text and the id that it goes by."""

    id: str
    text: str


@dataclass(frozen=True)
class Fields:
    """What a JSON object or a Parquet row calls its id, title and text. BEIR's names, unless given."""

    id: str = "_id"
    title: str = "title"
    text: str = "text"


BEIR = Fields()


def read_json_lines(path: str | PathLike[str], fields: Fields = BEIR) -> Iterator[Record]:
    """The records of a JSON Lines file, which may end in .gz or .zst; "-" is standard input.

    Title and text are joined with a space; a record needs no title. An id may be an integer.
    Raises InputError with the file and the line where one is broken.
    """
    return _read(Input(fspath(path), "jsonl"), fields)


def read_tsv(path: str | PathLike[str]) -> Iterator[Record]:
    """The records of a file of lines "id TAB text", as MS MARCO's; otherwise like read_json_lines."""
    return _read(Input(fspath(path), "tsv"))


def read_text(path: str | PathLike[str]) -> Iterator[Record]:
    """A record for each line, with the line's number, from 1, as its id; otherwise like read_json_lines."""
    return _read(Input(fspath(path), "text"))


def read_parquet(path: str | PathLike[str], fields: Fields = BEIR) -> Iterator[Record]:
    """A record for each row of a Parquet file; otherwise like read_json_lines. Needs the extra `parquet`."""
    return _read(Input(fspath(path), "parquet"), fields)


def parse(kind: str, line: bytes, number: int, fields: Fields = BEIR) -> Record:
    """What a line means; `number` becomes the id of plain text. Raises ValueError with the reason where it is bad."""
    try:
        text = line.removeprefix(_BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"invalid UTF-8 at byte {error.start}") from None
    if kind == "text":
        return Record(str(number), text)
    if kind == "tsv":
        name, tab, text = text.partition("\t")
        if not tab:
            raise ValueError("no tab between an id and a text")
        return Record(_id(name), text)
    return _from_json(text, fields)


def _from_json(line: str, fields: Fields) -> Record:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"broken JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"a JSON object belongs here, not a {type(row).__name__}")
    if row.get(fields.text) is None:
        raise ValueError(f"no text: {fields.text!r} is missing or null")
    title, text = row.get(fields.title), row[fields.text]
    for field, value in ((fields.title, "" if title is None else title), (fields.text, text)):
        if not isinstance(value, str):
            raise ValueError(f"{field!r} is a {type(value).__name__}, not a string")
    whole = f"{title or ''} {text}".strip()
    name = _id(row.get(fields.id), fields.id)
    try:
        (name + whole).encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair, which is no character") from None
    return Record(name, whole)


def _id(value: object, field: str = "id") -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise ValueError(f"no id: {field!r} is {value!r} where a string or an integer belongs")
    return value


def _read(source: Input, fields: Fields = BEIR) -> Iterator[Record]:
    for number, line in enumerate(source.lines((fields.id, fields.title, fields.text)), start=1):
        try:
            yield parse(source.kind, line, number, fields)
        except ValueError as error:
            raise InputError(f"{source.name}, line {number}: {error}") from error
