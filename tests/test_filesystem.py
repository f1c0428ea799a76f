from __future__ import annotations

import os
from pathlib import Path

import pytest

from spladerunner.filesystem import Folder


def test_a_file_is_whole_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = list[tuple[int, bool]]()

    def fsync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size, (tmp_path / "a").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    Folder(str(tmp_path)).write("a", b"12345")
    assert synced[0] == (5, False)
    assert [file.name for file in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_bytes() == b"12345"


def test_a_file_whose_writing_fails_does_not_appear(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write("a", b"before")
    with pytest.raises(ZeroDivisionError), folder.writing("a") as file:
        file.write(b"after" * (1 // 0))
    assert [file.name for file in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_bytes() == b"before"
