"""Stream: standard output, a pipe or a device as the output of a job. It has no state, so nothing is resumed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from spladerunner.bulk.writer import START, State
from spladerunner.readers.records import Record
from spladerunner.vector import SparseVector

STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
"""Names of standard output. They are not opened: a file to which it is redirected would be."""


def is_stream(output: str) -> bool:
    """True if an output is standard output, a pipe or a device.

    >>> is_stream("-"), is_stream("/dev/stdout"), is_stream("vectors.jsonl")
    (True, True, False)
    """
    path = Path(output)
    return output in STDOUT or (path.exists() and not path.is_file() and not path.is_dir())


class Stream:
    """Writer of lines to a stream, each at once; bad lines go to standard error.

    line: turns a record and its vector into a line, without its newline; ValueError if the format refuses it.
    """

    def __init__(self, output: str, line: Callable[[Record, SparseVector], str]) -> None:
        self._line = line
        self._is_stdout = output in STDOUT
        self._file: BinaryIO = sys.stdout.buffer if self._is_stdout else Path(output).open("wb")  # noqa: SIM115
        self.state: State = dict(START)
        self.finished = False

    @property
    def digests(self) -> Mapping[int, str]:
        """Nothing was done before."""
        return {}

    def write(self, record: Record, vector: SparseVector) -> None:
        """Writes a line. Raises ValueError if its format refuses the record."""
        self._file.write(self._line(record, vector).encode() + b"\n")
        self._file.flush()
        self.state["documents"] += 1

    def write_bad(self, line: str) -> None:
        """Writes a bad line to standard error."""
        sys.stderr.write(f"{line}\n")
        self.state["bad"] += 1

    def reached(self, lines: int, digest: str) -> None:
        """Records that the lines written so far come from the first `lines` lines of the input, with this digest."""
        self.state["lines"], self.state["digest"] = lines, digest

    def save(self) -> None:
        """Does nothing: what was written is gone."""

    def finish(self) -> None:
        """Does nothing: every line was written at once."""

    def close(self) -> None:
        """Closes the stream, unless it is standard output."""
        if not self._is_stdout:
            self._file.close()
