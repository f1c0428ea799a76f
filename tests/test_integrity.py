"""Digests against FIPS 180-2's published example, and checks on another thread."""

from __future__ import annotations

import threading
from hashlib import sha256
from pathlib import Path

import pytest

from spladerunner.model.integrity import BackgroundCall, digest_by_length, digest_of_file, digest_of_text

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_published_example(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert digest_of_text("abc") == ABC
    assert digest_of_file(tmp_path / "abc") == ABC


def test_the_length_of_a_digest_says_which_it_is(tmp_path: Path) -> None:
    """git's by the example in "Pro Git", chapter 10.2."""
    (tmp_path / "abc").write_bytes(b"abc")
    (tmp_path / "blob").write_bytes(b"test content\n")
    assert digest_by_length(tmp_path / "abc", 64) == ABC
    assert digest_by_length(tmp_path / "blob", 40) == "d670460b4b4aece5915caf5c68d12f560a9fe3e4"
    assert digest_by_length(tmp_path / "blob", 32) is None


def test_a_long_file_is_read_completely(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "long").write_bytes(content)
    assert digest_of_file(tmp_path / "long") == sha256(content).hexdigest()


def test_the_context_runs_during_the_check() -> None:
    in_context = threading.Event()
    checked: list[bool] = []
    with BackgroundCall(lambda: checked.append(in_context.wait(timeout=60))):
        in_context.set()
    assert checked == [True]


@pytest.mark.parametrize("error", [MemoryError("full"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_of_the_check_is_raised_at_the_end(error: BaseException) -> None:
    def fail() -> None:
        raise error

    reached_end = False
    with pytest.raises(type(error)) as raised, BackgroundCall(fail):
        reached_end = True
    assert raised.value is error and reached_end


def test_an_error_of_the_check_replaces_one_of_the_context() -> None:
    def fail() -> None:
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged") as raised, BackgroundCall(fail):
        raise RuntimeError("cannot be opened")
    assert isinstance(raised.value.__context__, RuntimeError)


def test_an_error_of_the_context_is_raised_if_the_check_succeeds() -> None:
    with pytest.raises(RuntimeError, match="cannot be opened"), BackgroundCall(lambda: None):
        raise RuntimeError("cannot be opened")
