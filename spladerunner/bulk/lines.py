"""The lines of a job: those of all inputs, numbered, with a digest by which a resumed job recognizes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from spladerunner.errors import InputError, OutputError
from spladerunner.readers.files import Input
from spladerunner.readers.lines import InputLine, read_lines
from spladerunner.readers.records import Fields


@dataclass(frozen=True, slots=True)
class JobLine:
    """A line and its position in the job.

    count: the lines of all inputs up to this one, included. digest: SHA-256 of this line and the digest before it.
    """

    line: InputLine
    count: int
    digest: bytes

    def error(self, problem: str) -> InputError:
        """The error that ends a job at this line."""
        return self.line.error(problem, "Fix the line, or skip bad lines with --skip-bad.")

    def as_bad(self, problem: str) -> str:
        """The line as JSON, for the file of bad lines."""
        raw = self.line.raw.decode("utf-8", "backslashreplace")
        return json.dumps({"file": self.line.source.name, "line": self.line.number, "reason": problem, "raw": raw})


def job_lines(inputs: Sequence[Input], fields: Fields, skip_bad: bool, part: range | None) -> Iterator[JobLine]:
    """Reads the lines from the first of the inputs to the last of the part; those before it for their ids.

    Raises InputError at a bad line, unless skip_bad.
    """
    digest = b""
    for count, line in enumerate(read_lines(inputs, fields), start=1):
        if part is not None and count > part.stop:
            return
        digest = sha256(digest + line.raw).digest()
        job_line = JobLine(line, count, digest)
        if line.problem and not skip_bad:
            raise job_line.error(line.problem)
        yield job_line


def remaining_lines(lines: Iterator[JobLine], first: int, done: int, digest: str) -> Iterator[JobLine]:
    """Drops the lines before the part, which begins at `first`, and the `done` lines of an interrupted job.

    Raises OutputError if the digest of the done lines has changed.
    """
    count = 0
    for line in lines:
        count = line.count
        if count == done and line.digest.hex() != digest:
            break
        if count > max(done, first):
            yield line
    else:
        if count >= done:
            return
    raise OutputError(
        f"The inputs have changed: their first {done} lines differ from those that were encoded. Restore them, or "
        "delete the .partial files of the output to start over."
    )
