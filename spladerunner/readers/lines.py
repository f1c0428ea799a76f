"""Inputs to lines, each parsed; and to records, with an error at the first bad line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike, fspath

from spladerunner.errors import InputError
from spladerunner.readers.duplicates import SeenIds
from spladerunner.readers.files import Input
from spladerunner.readers.records import BEIR, Fields, Record, parse_line


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


def read_lines(inputs: Iterable[Input], fields: Fields = BEIR) -> Iterator[InputLine]:
    """Reads every line of the inputs, blank and bad ones too.

    Plain text is numbered through all inputs, so that its ids stay unique.
    Raises InputError if a file is damaged, MissingExtraError if a package is missing, and OSError.
    """
    seen, count = SeenIds(), 0
    for source in inputs:
        for number, raw in enumerate(source.lines((fields.id, fields.title, fields.text)), start=1):
            count += 1
            try:
                record = parse_line(source.kind, raw, count, fields)
                if record is not None and not seen.add(record.id):
                    raise ValueError(f"the id {record.id!r} occurred before")
            except ValueError as error:
                yield InputLine(source, number, raw, None, str(error))
            else:
                yield InputLine(source, number, raw, record, "")


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
