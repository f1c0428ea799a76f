"""Attacks on `encode`: processes killed at random moments, and system calls that fail."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from spladerunner import Expander, SpladeRunnerError
from spladerunner.bulk import encode, job
from spladerunner.readers import Input
from tests.attack.tries import Tried
from tests.small_model import write_bundle
from tests.test_bulk_job import killed_until_done, write_corpus

CALLS = [(os, "pwrite"), (os, "fsync"), (os, "open"), (os, "ftruncate"), (Path, "replace"), (Path, "unlink")]
ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EACCES)


def kills(chosen: Random) -> Iterator[Tried]:
    """A job killed by SIGKILL several times and run again until it is done writes the files of one that was not."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        bundle = write_bundle(folder / "bundle")
        corpus = write_corpus(folder / "corpus.jsonl", 1000, bad=True)
        expected = folder / "expected"
        encode(Expander(bundle), [Input(str(corpus))], expected, skip_bad=True)
        for number in range(1_000_000):
            out = folder / f"out{number}"
            command = ["encode", str(corpus), "--model", str(bundle), "--skip-bad", "-o", str(out)]
            try:
                killed = killed_until_done(command, chosen.getrandbits(32), least_kills=chosen.randrange(1, 6))
            except AssertionError as error:
                yield Tried(1, f"a job that was killed: {error}")
                continue
            same = same_files(out, expected)
            yield Tried(killed, None if same else f"a job that was killed {killed} times wrote other bytes")
            clear(out)


def faults(chosen: Random) -> Iterator[Tried]:
    """A job in which a random system call fails ends with a SpladeRunnerError, and completes when run again."""
    with tempfile.TemporaryDirectory() as made, pytest.MonkeyPatch.context() as patch:
        folder = Path(made)
        expander = Expander(write_bundle(folder / "bundle"))
        inputs = [Input(str(write_corpus(folder / "corpus.jsonl", 150, bad=True)))]
        expected, out = folder / "expected", folder / "out"
        encode(expander, inputs, expected, skip_bad=True)
        patch.setattr(job, "SAVE_SECONDS", 0.0)
        while True:
            fault = Fault(chosen)
            failure = None
            try:
                with fault.installed():
                    encode(expander, inputs, out, skip_bad=True)
            except (SpladeRunnerError, OSError) as error:
                if isinstance(error, OSError) and error.errno != fault.error:
                    failure = f"{fault}: {error!r}"
            except Exception as error:
                failure = f"{fault}: {error!r}"
            try:
                encode(expander, inputs, out, skip_bad=True)
                if not same_files(out, expected):
                    failure = f"{fault}: run again, the job wrote other bytes"
            except Exception as error:
                failure = f"{fault}: run again, the job ends with {error!r}"
            yield Tried(int(fault.happened), failure)
            clear(out)


class Fault:
    """Makes one system call of a job fail, the n-th of its kind."""

    def __init__(self, chosen: Random) -> None:
        self.owner, self.name = chosen.choice(CALLS)
        self.error = chosen.choice(ERRORS)
        self.left = chosen.choice((0, 1, 2, 3, 5, 8, 13, 21))
        self.happened = False

    def __str__(self) -> str:
        return f"{self.name} failed with {errno.errorcode[self.error]} after {self.left} calls"

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Fails the call while the block runs."""
        call, calls = getattr(self.owner, self.name), 0

        def fail(*given: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == self.left + 1:
                self.happened = True
                raise OSError(self.error, os.strerror(self.error))
            return call(*given, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.owner, self.name, fail)
            yield


def same_files(out: Path, expected: Path) -> bool:
    """True if a job wrote the lines and the bad lines of the other, and left nothing unfinished."""
    return (
        out.read_bytes() == expected.read_bytes()
        and Path(f"{out}.bad.jsonl").read_bytes() == Path(f"{expected}.bad.jsonl").read_bytes()
        and not list(out.parent.glob("*.partial*"))
    )


def clear(out: Path) -> None:
    """Removes what a job wrote."""
    for path in out.parent.glob(f"{out.name}*"):
        path.unlink()
