"""Digests against FIPS 180-2's published example, and files longer than what is read at once."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from spladerunner.model.integrity import digest_of_file, digest_of_text

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_published_example(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert digest_of_text("abc") == ABC
    assert digest_of_file(tmp_path / "abc") == ABC


def test_a_long_file_is_read_whole(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "long").write_bytes(content)
    assert digest_of_file(tmp_path / "long") == sha256(content).hexdigest()
