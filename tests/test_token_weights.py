"""Tables of token weights: NumPy's format against NumPy itself, and everything that only looks like one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spladerunner import ModelFilesError
from spladerunner.model.token_weights import read_token_weights
from tests.test_outside_files import safetensors

POSITIONS = {"[CLS]": 0, "river": 1, "bank": 2}
WEIGHTS = np.array([0.0, 1.5, 0.25], dtype=np.float32)


def npy(array: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def in_version_2() -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, WEIGHTS, version=(2, 0))
    return file.getvalue()


def read(name: str, content: bytes) -> np.ndarray:
    return read_token_weights(Path(name), content, POSITIONS, len(POSITIONS))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("query.npy", npy(WEIGHTS)),
        ("query.npy", in_version_2()),
        ("model.safetensors", safetensors(WEIGHTS)),
        ("model.safetensors", safetensors(WEIGHTS[:, None])),
        ("idf.json", b'{"bank": 0.25, "river": 1.5}'),
    ],
)
def test_each_format_gives_the_same_weights(name: str, content: bytes) -> None:
    found = read(name, content)
    assert found.dtype == np.float32 and found.tolist() == WEIGHTS.tolist()
    found[0] = 1  # the array is not the file's bytes


def test_safetensors_reads_what_is_written_here_too() -> None:
    reference = pytest.importorskip("safetensors.numpy")
    assert reference.load(safetensors(WEIGHTS))["weight"].tolist() == WEIGHTS.tolist()
    assert read("model.safetensors", reference.save({"weight": WEIGHTS})).tolist() == WEIGHTS.tolist()


@pytest.mark.parametrize(
    "array",
    [
        WEIGHTS[:2],
        WEIGHTS.astype(np.float64),
        WEIGHTS.astype(">f4"),
        WEIGHTS[None],
        np.array(["a", "b", "c"]),
        np.zeros(3, dtype=[("a", "f4")]),
    ],
)
def test_an_array_of_another_shape_or_type_is_named(array: np.ndarray) -> None:
    with pytest.raises(ModelFilesError, match=r"query\.npy is .*, not float32 of shape \(3,\)") as raised:
        read("query.npy", npy(array))
    assert raised.value.expected == ("float32", (3,)) and raised.value.found[1] == array.shape  # type: ignore[index]


def archive() -> bytes:
    file = io.BytesIO()
    np.savez(file, weights=WEIGHTS)
    return file.getvalue()


def header(text: str) -> bytes:
    return len(text).to_bytes(8, "little") + text.encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("query.npy", b""),
        ("query.npy", b"no array"),
        ("query.npy", archive()),
        ("query.npy", npy(np.array([{}, 1, 2]), allow_pickle=True)),
        ("query.npy", npy(WEIGHTS)[:-1]),
        ("query.npy", npy(WEIGHTS) + b"x"),
        ("query.npy", npy(WEIGHTS).replace(b"(3,)", b"(9" + b"9" * 15 + b",)").replace(b"  ", b"", 8)),
        ("model.safetensors", b""),
        ("model.safetensors", (1 << 60).to_bytes(8, "little")),
        ("model.safetensors", header("7")),
        ("model.safetensors", header("{}")),
        ("model.safetensors", header('{"weight": {"dtype": "F32", "shape": [3]}}')),
        ("model.safetensors", header('{"weight": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}')),
        (
            "model.safetensors",
            header('{"weight": {"dtype": "F32", "shape": [3], "data_offsets": [4, 16]}}') + bytes(16),
        ),
        ("model.safetensors", header("[" * 100_000)),
        ("idf.json", b""),
        ("idf.json", b"[" * 100_000),
    ],
)
def test_what_is_no_table_is_named(name: str, content: bytes) -> None:
    with pytest.raises(ModelFilesError, match=name.replace(".", r"\.")):
        read(name, content)


def test_a_tensor_elsewhere_is_told_with_both_places() -> None:
    content = header('{"weight": {"dtype": "F32", "shape": [3], "data_offsets": [4, 16]}}') + bytes(16)
    with pytest.raises(ModelFilesError, match=r"its tensor is at \[4, 16\], not at the 12 bytes that it takes"):
        read("model.safetensors", content)


@pytest.mark.slow
@given(data=st.data())
@settings(deadline=None, max_examples=200)
@pytest.mark.parametrize(("name", "whole"), [("query.npy", npy(WEIGHTS)), ("model.safetensors", safetensors(WEIGHTS))])
def test_changed_bytes_are_an_error_or_a_table(name: str, whole: bytes, data: st.DataObject) -> None:
    changed = bytearray(whole)
    at = data.draw(st.integers(0, len(whole) - 1))
    changed[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        found = read(name, bytes(changed))
    except ModelFilesError:
        return
    assert found.shape == (3,)
