from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from spladerunner.atomic_file import write_atomically
from tests.disk_steps import disk_steps


def test_a_text_and_parts_of_one_are_written_in_utf8(tmp_path: Path) -> None:
    write_atomically(tmp_path / "text", "naïve\n数")
    write_atomically(tmp_path / "parts", iter(["naïve\n", "数"]))
    assert (tmp_path / "text").read_bytes() == (tmp_path / "parts").read_bytes() == "naïve\n数".encode()


def test_what_breaks_off_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    def parts() -> Iterator[str]:
        yield "half"
        raise RuntimeError("broken off")

    (tmp_path / "file").write_text("old")
    with pytest.raises(RuntimeError):
        write_atomically(tmp_path / "file", parts())
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "old"


def test_the_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = disk_steps(monkeypatch)
    write_atomically(tmp_path / "file", "text")
    (synced, size), renamed = steps
    assert size == 4 and renamed == (synced, "file") and synced != "file"


def test_a_link_stays_one_and_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_atomically(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "text"
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor() as threads:
        read = threads.submit((tmp_path / "pipe").read_text)
        write_atomically(tmp_path / "pipe", "text")
        assert read.result() == "text"
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path, "text")
