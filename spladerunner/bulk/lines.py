"""The lines of a job: those of all inputs, numbered, with a digest by which a resumed job recognizes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from spladerunner.errors import InputError, OutputError
from spladerunner.readers.files import Input
from spladerunner.readers.lines import BEGINNING, InputLine, Start, read_lines
from spladerunner.readers.records import Fields

_NO_FIELD = ("no id: ", "no text: ")


@dataclass(frozen=True, slots=True)
class JobLine:
    """A line and its position in the job.

    count: the lines of all inputs up to this one, included. digest: SHA-256 of the digest before it, which is empty at
    the first line of a part, and this line.
    """

    line: InputLine
    count: int
    digest: bytes

    def error(self, problem: str) -> InputError:
        """The error that ends a job at this line."""
        fields = (
            "give the names of the fields with --id-field and --text-field, " if problem.startswith(_NO_FIELD) else ""
        )
        return self.line.error(problem, f"Fix the line, {fields}or skip bad lines with --skip-bad.")

    def as_bad(self, problem: str) -> str:
        """The line as JSON, for the file of bad lines."""
        raw = self.line.raw.decode("utf-8", "backslashreplace")
        return json.dumps({"file": self.line.source.name, "line": self.line.number, "reason": problem, "raw": raw})


def job_lines(
    inputs: Sequence[Input],
    fields: Fields,
    skip_bad: bool,
    shard: range | None,
    part_lines: int | None = None,
    start: Start = BEGINNING,
) -> Iterator[JobLine]:
    """Reads the lines from the start of the inputs to the last of the shard; those before the shard for their ids.

    part_lines: lines of a part; each part has a digest of its own. Raises InputError at a bad line, unless skip_bad.
    """
    digest = b""
    first = shard.start if shard is not None else 0
    for count, line in enumerate(read_lines(inputs, fields, start), start=start.count + 1):
        if shard is not None and count > shard.stop:
            return
        if part_lines is not None and (count - 1 - first) % part_lines == 0:
            digest = b""
        digest = sha256(digest + line.raw).digest()
        job_line = JobLine(line, count, digest)
        if line.problem and not skip_bad:
            raise job_line.error(line.problem)
        yield job_line


def remaining_lines(lines: Iterator[JobLine], first: int, done: int, digests: Mapping[int, str]) -> Iterator[JobLine]:
    """Drops the lines before the shard, which begins at `first`, and the `done` lines of an interrupted job.

    digests: of done lines, by their count. Raises OutputError if one of them has changed.
    """
    count = 0
    for line in lines:
        count = line.count
        if count in digests and line.digest.hex() != digests[count]:
            break
        if count > max(done, first):
            yield line
    else:
        if count >= done:
            return
    raise OutputError(
        f"The inputs have changed: their first {done} lines differ from those that were encoded. Restore them, or "
        "delete the .partial files of the output, or its parts, to start over."
    )
