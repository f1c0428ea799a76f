"""Vectors in JSON Lines: with their texts, or without, by token or by index."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import numpy as np

from spladerunner.errors import InputError
from spladerunner.readers.files import Input
from spladerunner.readers.records import decode_line
from spladerunner.vector import SparseVector

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class VectorLine:
    """A vector of a file. text: None if the line has none. vector: {token: weight}, or by index. number: of the line.

    source: the file.
    """

    text: str | None
    vector: Mapping[str, float] | SparseVector
    source: Input
    number: int

    def error(self, problem: str) -> InputError:
        """Returns an error about this line."""
        return _error(self.source, self.number, problem)


def read_vectors(path: str | PathLike[str]) -> Iterator[VectorLine]:
    r"""Reads the vectors of a JSON Lines file, which may end in .gz or .zst; "-" is standard input.

    A line has "vector": {token: weight}, as `spladerunner encode` writes it; or "indices" and "values", at the top or
    in "vector"; and may have a "text". Other fields are ignored.
    Raises InputError with the file and the line if one is invalid, or there is none, and OSError.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "vectors.jsonl")
    ...     _ = file.write_text('{"text": "a bank", "vector": {"bank": 1.5}}\n{"indices": [7, 3], "values": [1, 2]}\n')
    ...     [line.vector for line in read_vectors(file)]
    [{'bank': 1.5}, SparseVector(indices=array([3, 7], dtype=int32), values=array([2., 1.], dtype=float32))]
    """
    source = Input(fspath(path), "jsonl")
    found = False
    for number, line in enumerate(source.lines(), start=1):
        try:
            content = decode_line(line)
            if content.strip():
                found = True
                yield VectorLine(*_parse(content), source, number)
        except ValueError as error:
            raise _error(source, number, str(error)) from None
    if not found:
        raise InputError(f"{source.name} has no vectors. Give a file with a JSON object in each line.", path=path)


def _parse(line: str) -> tuple[str | None, Mapping[str, float] | SparseVector]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    text = row.get("text")
    if not isinstance(text, str | None):
        raise ValueError("its 'text' is not a string")
    vector = row.get("vector", row)
    if not isinstance(vector, dict):
        raise ValueError("its 'vector' is not an object")
    indices, values = vector.get("indices"), vector.get("values")
    if isinstance(indices, list) and isinstance(values, list):
        return text, _by_index(indices, values)
    if "vector" not in row:
        raise ValueError("no vector: it has neither 'vector' nor 'indices' and 'values'")
    for token, weight in vector.items():
        _check_number(weight, f"the weight of {token[:40]!r}")
    return text, vector


def _by_index(indices: list[Any], values: list[Any]) -> SparseVector:
    if len(indices) != len(values):
        raise ValueError(f"it has {len(indices)} indices and {len(values)} values")
    for index in indices:
        if isinstance(index, bool) or not isinstance(index, int):
            raise ValueError("an index is not an integer")
    for value in values:
        _check_number(value, "a value")
    pairs = sorted(zip(indices, values, strict=True))
    return SparseVector([index for index, _ in pairs], [value for _, value in pairs])


def _check_number(value: object, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise ValueError(f"{what} is not a finite number of float32")


def _error(source: Input, number: int, problem: str) -> InputError:
    return InputError(f"{source.name}, line {number}: {problem}. Fix the line.", path=source.path, line=number)
