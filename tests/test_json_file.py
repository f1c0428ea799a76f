"""JSON from outside: strict, bounded, and read as the types that a dataclass declares."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spladerunner import ModelFilesError
from spladerunner.model.json_file import InvalidFieldError, parse_fields, read_fields, read_json


@dataclass(frozen=True)
class Part:
    size: int
    name: str = "none"


@dataclass(frozen=True)
class Whole:
    part: Part
    weights: Mapping[str, float]
    parts: tuple[Part, ...] = ()
    length: float | None = None


WHOLE = {"part": {"size": 3}, "weights": {"a": 1, "b": 0.5}, "parts": [{"size": 1, "name": "x"}], "unknown": None}


def test_fields_are_read_as_their_types() -> None:
    assert parse_fields(Whole, WHOLE) == Whole(Part(3), {"a": 1.0, "b": 0.5}, (Part(1, "x"),))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"part": None}, "has part = None, which is not an object"),
        ({"part": {}}, r"has no part\.size"),
        ({"part": {"size": True}}, r"has part\.size = True, which is not an integer"),
        ({"part": {"size": 1.0}}, r"has part\.size = 1\.0, which is not an integer"),
        ({"part": {"size": 1, "name": "\ud800"}}, r"has part\.name = '\\ud800', which is not a string"),
        ({"weights": {"a": "1"}}, r"has weights\.a = '1', which is not a finite number"),
        ({"weights": {"a": float("nan")}}, r"has weights\.a = nan, which is not a finite number"),
        ({"weights": {"a": 10**400}}, r"has weights\.a = .*, which is not a finite number"),
        ({"weights": {"\ud800": 1}}, "is not a string"),
        ({"weights": [1]}, r"has weights = \[1\], which is not an object"),
        ({"parts": {}}, r"has parts = \{\}, which is not an array"),
        ({"parts": [{"size": 1}, 7]}, r"has parts\[1\] = 7, which is not an object"),
        ({"length": "long"}, "has length = 'long', which is not a finite number"),
    ],
)
def test_a_value_of_another_type_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidFieldError, match=message):
        parse_fields(Whole, {**WHOLE, **changes})


def test_null_is_as_good_as_absent_in_a_file_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "whole.json"
    path.write_text(json.dumps({**WHOLE, "length": None, "parts": None}))
    assert read_fields(Whole, path) == Whole(Part(3), {"a": 1.0, "b": 0.5})
    path.write_text(json.dumps({**WHOLE, "part": None}))
    with pytest.raises(ModelFilesError, match=r"whole\.json has no part") as raised:
        read_fields(Whole, path)
    assert raised.value.path == path and raised.value.expected == "part"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"\xff\xfe", "utf-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"[" * 100_000, "(recursion|Stack)"),
        (b'{"a":' * 100_000, "(recursion|Stack)"),
        (b"[NaN]", "NaN is not a number of JSON"),
        (b"[-Infinity]", "-Infinity is not a number of JSON"),
        (b"[" + b"9" * 5000 + b"]", "digits"),
        (b'{"a": 1, "b": {"c": 1, "c": 1}}', "the key 'c' occurs twice"),
        (b"{} {}", "Extra data"),
    ],
)
def test_what_is_no_strict_json_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(ModelFilesError, match=rf"file\.json cannot be read: .*{message}") as raised:
        read_json(tmp_path / "file.json")
    assert raised.value.path == tmp_path / "file.json"
