"""Files that are none: pipes, devices and folders neither hang nor are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spladerunner import Expander, ModelFilesError
from spladerunner.model.content import is_inside, is_there, open_regular, read_content
from tests.small_model import SYMMETRIC, write_bare_folder, write_bundle


def make(path: Path, kind: str) -> None:
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"device": "/dev/zero", "dangling link": "/nowhere"}[kind])


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "dangling link"])
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, kind: str) -> None:
    make(tmp_path / "file", kind)
    assert is_there(tmp_path / "file")
    with pytest.raises((ValueError, OSError)):
        open_regular(tmp_path / "file")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "dangling link"])
@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json", "doc.onnx", "query.onnx"])
def test_in_a_bundle_they_are_named(tmp_path: Path, name: str, kind: str) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    make(bundle / name, kind)
    with pytest.raises(ModelFilesError, match=name):
        Expander(bundle)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "dangling link"])
@pytest.mark.parametrize(
    "name", ["tokenizer.json", "model.onnx", "config.json", "tokenizer_config.json", "modules.json"]
)
def test_in_a_bare_folder_they_are_named(tmp_path: Path, name: str, kind: str) -> None:
    folder = write_bare_folder(tmp_path)
    make(folder / name, kind)
    with pytest.raises(ModelFilesError, match=name):
        Expander(folder, **SYMMETRIC).expand("the cat")


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "long").open("wb") as file:
        file.truncate(1 << 40)  # nothing is stored
    with pytest.raises(ValueError, match="it has 1099511627776 bytes, and such a file at most 5"):
        read_content(tmp_path / "long", 5)
    (tmp_path / "short").write_bytes(b"12345")
    assert read_content(tmp_path / "short", 5) == b"12345"


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "modules.json"])
def test_a_huge_file_of_a_model_is_refused(tmp_path: Path, name: str) -> None:
    folder = write_bare_folder(tmp_path)
    with (folder / name).open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ModelFilesError, match=rf"{name} cannot be read: it has \d+ bytes"):
        Expander(folder, **SYMMETRIC)


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("model.onnx_data", True),
        ("onnx/model.onnx_data", True),
        ("", True),
        ("..data", True),
        ("..", False),
        ("a/../../b", False),
        ("/a", False),
        ("a\\b", False),
        ("C:a", False),
        ("a\0b", False),
    ],
)
def test_a_name_is_inside_by_its_letters(name: str, inside: bool) -> None:
    assert is_inside(name) == inside
