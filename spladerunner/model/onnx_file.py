"""Reads what a graph says of itself before onnxruntime opens it: the tensors outside its file, and its first output.

A graph is a message of Protocol Buffers, of which only the few fields that matter are read here: the package onnx takes
longer to import than a model to open. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from mmap import mmap
from typing import NamedTuple

import numpy as np

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_MARK = b"location"
"""Every external tensor has a key of this name, so whatever lacks these bytes holds none."""
_LONG = 1 << 16

_WITHIN = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
"""The messages that a message may hold and in which tensors may be."""

_TYPES: dict[int, str] = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}
"""NumPy's names of ONNX's types."""


class ExternalTensor(NamedTuple):
    """An initializer whose numbers are in another file.

    location: the file, as the graph names it. offset: its first byte there. type: NumPy's name. size: in bytes.
    """

    name: str
    location: str
    offset: int
    type: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes that the tensor takes."""
        return prod(self.shape) * np.dtype(self.type).itemsize


def external_tensors(graph: bytes | mmap) -> list[ExternalTensor]:
    """The initializers of a graph that are in other files. Raises ValueError if the bytes are no such graph.

    External tensors in other places than the initializers of the main graph are an error too: no exporter writes them.
    """
    found = []
    pending: list[tuple[str, bytes | memoryview, bool]] = [("model", memoryview(graph), True)]
    while pending:
        kind, message, is_main = pending.pop()
        if kind == "tensor":
            if tensor := _external_tensor(message):
                if not is_main:
                    raise ValueError(
                        f"the tensor {tensor.name!r} in another file is not an initializer of the main graph"
                    )
                found.append(tensor)
            continue
        within = _WITHIN[kind]
        for number, value in _fields(message):
            if number in within and not isinstance(value, int) and _may_hold_a_location(value):
                pending.append((within[number], value, is_main and (kind, number) in {("model", 7), ("graph", 5)}))
    return found


def _may_hold_a_location(message: memoryview) -> bool:
    """False for most messages, found in the time of a search; long ones are walked, as their weights are skipped."""
    return len(message) > _LONG or _MARK in bytes(message)


def output_rank(graph: bytes | mmap) -> int | None:
    """The number of axes of a graph's first output, None if it does not say. Raises ValueError as external_tensors."""
    for number, value in _fields(memoryview(graph)):
        if number == 7:
            output = next((field for at, field in _fields(_message(value)) if at == 12), None)
            shape = None if output is None else _down(output, 2, 1, 2)
            return None if shape is None else sum(at == 1 for at, _ in _fields(shape))
    return None


def _down(message: int | memoryview, *path: int) -> memoryview | None:
    """The message at the end of a path of field numbers, None if one is absent."""
    for step in path:
        found = [field for at, field in _fields(_message(message)) if at == step]
        if not found:
            return None
        message = found[-1]
    return _message(message)


def _external_tensor(message: bytes | memoryview) -> ExternalTensor | None:
    name, data_type, is_external = "", 0, False
    shape: list[int] = []
    entries: dict[str, str] = {}
    for number, value in _fields(message):
        if number == 1:
            shape += [value] if isinstance(value, int) else _packed(value)
        elif number == 2 and isinstance(value, int):
            data_type = value
        elif number == 8:
            name = _text(value)
        elif number == 13:
            is_external = True
            pair = dict(_fields(_message(value)))
            key, text = _text(pair.get(1, b"")), _text(pair.get(2, b""))
            if key in entries:
                raise ValueError(f"the tensor {name!r} has two entries {key!r}")
            entries[key] = text
        elif number == 14:
            is_external = is_external or value == 1
    if not is_external:
        return None
    if data_type not in _TYPES:
        raise ValueError(f"the tensor {name!r} in another file is of ONNX's type {data_type}, which is not supported")
    tensor = ExternalTensor(
        name, entries.get("location", ""), _count(entries.get("offset", "0")), _TYPES[data_type], tuple(shape)
    )
    if "length" in entries and _count(entries["length"]) != tensor.size:
        raise ValueError(f"the tensor {name!r} takes {tensor.size} bytes, but is said to have {entries['length']}")
    return tensor


def _fields(message: bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message: their number, and an integer or the bytes."""
    view = memoryview(message)
    at, end = 0, len(view)
    while at < end:
        key, at = _varint(view, at)
        kind = key & 7
        value: int | memoryview
        if kind == _VARINT:
            value, at = _varint(view, at)
        else:
            if kind == _BYTES:
                size, at = _varint(view, at)
            elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
                size = 8 if kind == _EIGHT_BYTES else 4
            else:
                raise ValueError(f"it is not an ONNX graph: byte {at - 1} starts a field of kind {kind}")
            if size > end - at:
                raise ValueError(f"it is not an ONNX graph: a field of {size} bytes has only {end - at}")
            value = view[at : at + size]
            at += size
        yield key >> 3, value


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """An integer of seven bits a byte, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            break
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it is not an ONNX graph: an integer has no end")


def _packed(message: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(message):
        value, at = _varint(message, at)
        values.append(value)
    return values


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("it is not an ONNX graph: an integer is where a message should be")
    return value


def _text(value: int | bytes | memoryview) -> str:
    return b"".join([_message(value) if isinstance(value, int) else value]).decode("utf-8")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise ValueError(f"{text[:50]!r} is not a number of bytes")
    return int(text)
