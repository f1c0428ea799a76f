"""Writer: what a job writes its vectors to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from spladerunner.readers.records import Record
from spladerunner.vector import SparseVector

State = dict[str, Any]
"""Progress of a job, with the keys of START, and the fields that its writer adds."""

COUNTS = ("cut", "tokens", "lost")
"""Keys of a state: texts that are cut, tokens of all texts, and those of them that are not read."""

START: State = {"lines": 0, "documents": 0, "bad": 0, "digest": "", **dict.fromkeys(COUNTS, 0)}
"""A job that has not begun. documents: the records that were written. digest: of the lines that are done."""


class Writer(Protocol):
    """Writes the vectors and bad lines of a job, in the order of the input, so that a killed job can resume.

    state: how far the job is, what an interrupted one saved included.
    finished: the interrupted job had written everything.
    """

    state: State
    finished: bool

    @property
    def digests(self) -> Mapping[int, str]:
        """Digests of lines that are done, by the number of lines up to each."""

    def write(self, record: Record, vector: SparseVector) -> None:
        """Writes a vector. Raises ValueError if it cannot be written in the format of the output."""

    def write_bad(self, line: str) -> None:
        """Writes a bad line, as JSON."""

    def reached(self, lines: int, digest: str) -> None:
        """Records that all written so far comes from the first `lines` lines of the input, with this digest."""

    def save(self) -> None:
        """Saves what can be saved now. Raises OSError, for example if the disk is full; the last save stays valid."""

    def finish(self) -> None:
        """Saves all, and gives the output its name."""

    def close(self) -> None:
        """Closes the output; what was not saved is encoded again on resume."""
