"""Record: an id and a text, and the rules by which a line becomes one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

_JSON_TYPES = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "an object",
    type(None): "missing or null",
}
_SHOWN_FIELDS, _SHOWN_CHARACTERS = 20, 40
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Record:
    """A text and its id. kept: the fields of Fields.keep that the line has."""

    id: str
    text: str
    kept: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True)
class Fields:
    """Names of the id, title and text in a JSON object or a Parquet row; BEIR's by default.

    title: None for records without a title. keep: names of other fields, whose JSON values a record keeps.
    """

    id: str = "_id"
    title: str | None = "title"
    text: str = "text"
    keep: tuple[str, ...] = ()


BEIR = Fields()


def parse_line(kind: str, line: bytes, number: int, fields: Fields = BEIR) -> Record | None:
    r"""Parses one line of an input of this kind; returns None for a blank line.

    kind: "jsonl", "tsv", "text" or "parquet" (a row as a JSON object). number: the id, if the kind is "text".
    Raises ValueError with the reason if the line is bad.

    >>> parse_line("jsonl", b'{"_id": 7, "title": "A title", "text": "and a text"}', 1)
    Record(id='7', text='A title and a text')
    >>> parse_line("tsv", b"doc 1\ta text", 1)
    Record(id='doc 1', text='a text')
    """
    text = decode_line(line)
    if kind == "text":
        return Record(str(number), text)
    if not text.strip():
        return None
    if kind == "tsv":
        name, tab, text = text.partition("\t")
        if not tab:
            raise ValueError("no tab between an id and a text")
        return Record(_id(name), text)
    return _parse_json(text, fields)


def decode_line(line: bytes) -> str:
    """Decodes UTF-8, without a byte order mark at the start. Raises ValueError with the position of an invalid byte."""
    try:
        return line.removeprefix(_BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"invalid UTF-8 at byte {error.start}") from None


def _parse_json(line: str, fields: Fields) -> Record:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"{_type(row)}, not a JSON object")
    return parse_row(row, fields)


def parse_row(row: dict[str, Any], fields: Fields = BEIR) -> Record:
    """Turns a JSON object, or a row of a table, into a record. Raises ValueError with the reason if it is bad.

    >>> parse_row({"_id": 7, "title": None, "text": "a text"})
    Record(id='7', text='a text')
    """
    name = _id(row.get(fields.id), fields.id, _fields_of(row, fields.id))
    text = row.get(fields.text)
    title = row.get(fields.title) if fields.title is not None else None
    if not isinstance(text, str):
        found = _fields_of(row, fields.text)
        raise ValueError(f"no text: {fields.text!r} is {_type(text)}, not a string{found}")
    if not isinstance(title, str | None):
        raise ValueError(f"{fields.title!r} is {_type(title)}, not a string or null")
    text = f"{title or ''} {text}".strip()
    kept = {name: row[name] for name in fields.keep if name in row}
    try:
        (name + text + (json.dumps(kept, ensure_ascii=False, allow_nan=False) if kept else "")).encode()
    except UnicodeEncodeError:
        raise ValueError("a lone surrogate, which UTF-8 cannot encode") from None
    return Record(name, text, kept)


def _fields_of(row: dict[str, Any], wanted: str) -> str:
    """Names the fields of an object that lacks the wanted one, for a message: the first ones, shortened."""
    if wanted in row:
        return ""
    names = ", ".join(repr(name[:_SHOWN_CHARACTERS]) for name in islice(row, _SHOWN_FIELDS))
    return f"; the fields are {names or 'none'}{', …' if len(row) > _SHOWN_FIELDS else ''}"


def _id(value: object, field: str = "id", found: str = "") -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value == "":
        raise ValueError(f"no id: {field!r} is empty")
    if not isinstance(value, str):
        raise ValueError(f"no id: {field!r} is {_type(value)}, not a string or an integer{found}")
    return value


def _type(value: object) -> str:
    """Names the type of a value for a message: the value itself may have megabytes."""
    return _JSON_TYPES.get(type(value)) or f"of the type {type(value).__name__}"
