"""The lines of all inputs, one after another: each understood, or bad, and with what all lines up to it add up to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from spladerunner.bulk.duplicates import SeenIds
from spladerunner.errors import InputError, OutputError
from spladerunner.readers.files import Input
from spladerunner.readers.records import Fields, Record, parse


@dataclass(frozen=True)
class BadLine:
    """A line that no vector can be had of, and why. line: its number in its file, from 1."""

    file: str
    line: int
    reason: str
    raw: bytes

    def json(self) -> str:
        """As it goes into the file of bad lines."""
        raw = self.raw.decode("utf-8", "backslashreplace")
        return json.dumps({"file": self.file, "line": self.line, "reason": self.reason, "raw": raw})


@dataclass(frozen=True)
class Line:
    """A line of `file`, there the one numbered `here`.

    number: how many lines of all inputs end with this one. digest: of those lines.
    """

    file: str
    here: int
    raw: bytes
    number: int
    digest: bytes
    content: Record | BadLine

    def bad(self, reason: str) -> BadLine:
        """The line as a bad one."""
        return BadLine(self.file, self.here, reason, self.raw)

    def error(self, reason: str) -> InputError:
        """What stops an encoding at this line."""
        return _error(self.file, self.here, reason)


def read_lines(inputs: Sequence[Input], fields: Fields, skip_bad: bool, part: range | None) -> Iterator[Line]:
    """All lines from the first of the inputs to the last of the part, each held against the ids before it.

    Raises InputError at a bad line, unless skip_bad.
    """
    seen, number, digest = SeenIds(), 0, b""
    for source in inputs:
        for here, raw in enumerate(source.lines((fields.id, fields.title, fields.text)), start=1):
            if part is not None and number >= part.stop:
                return
            number += 1
            digest = sha256(digest + raw).digest()
            content: Record | BadLine
            try:
                content = parse(source.kind, raw, number, fields)
                if not seen.add(content.id):
                    raise ValueError(f"the id {content.id!r} is seen twice")
            except ValueError as error:
                if not skip_bad:
                    raise _error(source.name, here, str(error)) from error
                content = BadLine(source.name, here, str(error), raw)
            yield Line(source.name, here, raw, number, digest, content)


def lines_after(done: int, digest: str, first: int, lines: Iterator[Line]) -> Iterator[Line]:
    """The lines from `first` on, without the `done` ones that an earlier run has done.

    Raises OutputError where those have another digest now.
    """
    reached = 0
    for line in lines:
        reached = line.number
        if line.number == done and line.digest.hex() != digest:
            break
        if line.number > max(done, first):
            yield line
    else:
        if reached >= done:
            return
    raise OutputError(
        f"The inputs are not those that were begun with: their first {done} lines differ. Put them back as they were, "
        "or delete the output's .partial files to start over."
    )


def _error(file: str, here: int, reason: str) -> InputError:
    return InputError(f"{file}, line {here}: {reason}. Mend it, or go on without such lines: --skip-bad")
