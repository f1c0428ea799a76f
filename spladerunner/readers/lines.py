"""Inputs to lines, each parsed; and to records, with an error at the first bad line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from os import PathLike, fspath

from spladerunner.errors import InputError
from spladerunner.readers.duplicates import SeenIds
from spladerunner.readers.files import Input
from spladerunner.readers.records import BEIR, Fields, Record, parse_line


@dataclass(frozen=True)
class Start:
    """The line of the inputs at which reading begins.

    count: lines of all inputs before it. source: the position of its input. line: lines of that input before it.
    offset: bytes of that input before it, or 0 if its lines have to be read.
    """

    count: int = 0
    source: int = 0
    line: int = 0
    offset: int = 0


BEGINNING = Start()


@dataclass(frozen=True, slots=True)
class InputLine:
    """A line of an input.

    number: its number in the source, from 1. raw: its bytes, without the line end.
    record: None if the line is blank or bad. problem: why the line is bad; otherwise empty.
    """

    source: Input
    number: int
    raw: bytes
    record: Record | None
    problem: str

    def checked(self) -> Record | None:
        """Returns the record, or None if the line is blank. Raises InputError if it is bad."""
        if self.problem:
            raise self.error(self.problem)
        return self.record

    def error(self, problem: str, advice: str = "Fix the line.") -> InputError:
        """Returns an error about this line."""
        message = f"{self.source.name}, line {self.number}: {problem}. {advice}"
        return InputError(message, path=self.source.path, line=self.number)


def read_lines(inputs: Iterable[Input], fields: Fields = BEIR, start: Start = BEGINNING) -> Iterator[InputLine]:
    """Reads every line of the inputs, blank and bad ones too.

    start: the first line that is read; ids before it are not known. Plain text is numbered through all inputs, so that
    its ids stay unique.
    Raises InputError if a file is damaged, MissingExtraError if a package is missing, and OSError.
    """
    seen, count = SeenIds(), start.count
    first, offset = start.line, start.offset
    for source in islice(inputs, start.source, None):
        lines = source.lines((fields.id, fields.title, fields.text, *fields.keep), first, offset)
        for number, raw in enumerate(lines, start=first + 1):
            count += 1
            try:
                record = parse_line(source.kind, raw, count, fields)
                if record is not None and not seen.add(record.id):
                    raise ValueError(f"the id {record.id!r} occurred before")
            except ValueError as error:
                yield InputLine(source, number, raw, None, str(error))
            else:
                yield InputLine(source, number, raw, record, "")
        first = offset = 0


def starts_of_parts(inputs: Iterable[Input], part_lines: int) -> Iterator[Start]:
    r"""Divides the inputs into parts of a number of lines: yields where each begins.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with open(f"{folder}/a.txt", "w", newline="") as file:
    ...         _ = file.write("one\r\ntwo\nthree\n")
    ...     list(starts_of_parts([Input(f"{folder}/a.txt")], 2))
    [Start(count=0, source=0, line=0, offset=0), Start(count=2, source=0, line=2, offset=9)]
    """
    count = 0
    for position, source in enumerate(inputs):
        for line, offset in enumerate(source.offsets()):
            if count % part_lines == 0:
                yield Start(count, position, line, offset)
            count += 1


def read_records(path: str | PathLike[str], kind: str = "", fields: Fields = BEIR) -> Iterator[Record]:
    r"""Reads the records of a file.

    path: a file, which may end in .gz or .zst; "-" is standard input.
    kind: "jsonl", "tsv", "text" or "parquet"; by default, the one that the suffix says.
    fields: the names of id, title and text in JSON Lines and Parquet.

    Raises InputError with the file and the line if a line is bad or an id occurred before, InputError if the file is
    damaged, MissingExtraError if zstandard or pyarrow is needed and not installed, and OSError.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "queries.tsv")
    ...     _ = file.write_text("q1\twho built the bomb\nq2\twhere do trout live\n")
    ...     list(read_records(file))
    [Record(id='q1', text='who built the bomb'), Record(id='q2', text='where do trout live')]
    """
    for line in read_lines([Input(fspath(path), kind)], fields):
        if record := line.checked():
            yield record
