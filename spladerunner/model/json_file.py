"""Reads JSON from outside into dataclasses: the only way by which a model's JSON files come in.

A file is a regular one of bounded size, in UTF-8 and strict JSON: no NaN, no infinity, no key twice. Its fields are
read as the types that a dataclass declares; fields that it does not declare are ignored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from spladerunner.errors import ModelFilesError
from spladerunner.model.content import read_content

REPAIR = "Fetch or export the bundle again."
LIMIT = 64 << 20
"""Bytes of a JSON file at most; the largest, weights of 250,000 tokens, have a tenth of it."""

_TYPE_NAMES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    int: "an integer",
    float: "a finite number",
    bool: "true or false",
}


class InvalidFieldError(ValueError):
    """A field of a JSON file is missing or has another type."""

    def __init__(self, message: str, *, expected: object, found: object) -> None:
        super().__init__(message)
        self.expected = expected
        self.found = found


def read_json(path: Path) -> Any:
    """The value of a JSON file. Raises ModelFilesError if it cannot be read or decoded."""
    return decode_json(read_file(path), path)


def read_file(path: Path, origin: Path | None = None) -> bytes:
    """The content of a JSON file. Raises ModelFilesError if it cannot be read. origin: named in errors, not path."""
    origin = origin or path
    try:
        return read_content(path, LIMIT)
    except (OSError, ValueError) as error:
        raise ModelFilesError(f"{origin} cannot be read: {error}. {REPAIR}", path=origin) from error


def decode_json(content: bytes, origin: Path) -> Any:
    """The value of a JSON file that was read. Raises ModelFilesError, which names origin."""
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ModelFilesError(f"{origin} cannot be read: {error}. {REPAIR}", path=origin) from error


def read_fields(kind: Any, path: Path) -> Any:
    """A JSON file as a type, as parse_fields reads it; null is as good as absent.

    Raises ModelFilesError with the path and the field.
    """
    try:
        return parse_fields(kind, _without_null(read_json(path)))
    except InvalidFieldError as error:
        raise ModelFilesError(f"{path} {error}", path=path, expected=error.expected, found=error.found) from None


def parse_fields(kind: Any, value: Any, place: str = "") -> Any:
    """A JSON value as a dataclass, a tuple, a Mapping, a union of dataclasses, or a plain type.

    place: the keys that lead to the value, for errors. Raises InvalidFieldError.
    The dataclasses are the only list of fields. Libraries that read them take longer to import than a model to open.
    """
    if is_dataclass(kind):
        return _parse_object(kind, _of_type(dict, value, place), place)
    if isinstance(kind, UnionType):
        return parse_fields(_alternative(kind, value), value, place)
    container, arguments = get_origin(kind), get_args(kind)
    if container is tuple:
        items = enumerate(_of_type(list, value, place))
        return tuple(parse_fields(arguments[0], item, f"{place}[{at}]") for at, item in items)
    if container is Mapping:
        entries = _of_type(dict, value, place)
        names = get_args(arguments[0]) or entries  # those of a Literal, or any
        within = f"{place}." if place else ""
        return {
            _of_type(str, name, place): parse_fields(arguments[1], entries[name], within + name)
            for name in names
            if name in entries
        }
    if kind is float and type(value) is int:
        value = _to_float(value)
    return _of_type(kind, value, place)


def required_fields(kind: Any) -> list[str]:
    """Names of the fields that a dataclass has no default for."""
    return [field.name for field in fields(kind) if field.default is MISSING]


def _parse_object(kind: Any, entries: Mapping[str, Any], place: str) -> Any:
    place = f"{place}." if place else ""
    for name in required_fields(kind):
        if name not in entries:
            raise InvalidFieldError(f"has no {place}{name}. {REPAIR}", expected=place + name, found=None)
    types = {field.name: field.type for field in fields(kind) if field.name in entries}
    return kind(**{name: parse_fields(each, entries[name], place + name) for name, each in types.items()})


def _alternative(kind: UnionType, value: Any) -> Any:
    """The first type of a union whose required fields are there, or else the first."""
    kinds = [each for each in get_args(kind) if each is not NoneType]
    fits = (
        each
        for each in kinds
        if is_dataclass(each) and isinstance(value, dict) and value.keys() >= {*required_fields(each)}
    )
    return next(fits, kinds[0])


def _of_type(kind: Any, value: Any, place: str) -> Any:
    if type(value) is not kind or (kind is float and not math.isfinite(value)) or (kind is str and not _is_text(value)):
        expected = _TYPE_NAMES[kind]
        what = f"has {place} = " if place else "holds "
        raise InvalidFieldError(
            f"{what}{_shortened(value)}, which is not {expected}. {REPAIR}", expected=expected, found=value
        )
    return value


def _is_text(value: str) -> bool:
    """False if the string has lone surrogates, which cannot be written again."""
    try:
        return value.isascii() or bool(value.encode("utf-8"))
    except UnicodeEncodeError:
        return False


def _shortened(value: object) -> str:
    shown = ascii(value) if isinstance(value, str) and not _is_text(value) else repr(value)
    return shown if len(shown) <= 200 else f"{shown[:200]}…"


def _to_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(item) for key, item in value.items() if item is not None}
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!a} occurs twice")
        found[key] = value
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")
