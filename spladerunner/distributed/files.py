"""encode_files: the parts of a folder, each encoded by whichever worker an engine gives it to.

The folder is the same, byte for byte, as that of one process, and either may go on where the other was stopped.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from spladerunner.bulk.job import PART_LINES, Progress, encode_lines, job_options, parquet_job
from spladerunner.bulk.lines import job_lines
from spladerunner.bulk.parts import PartWriter, begin, compare
from spladerunner.bulk.shard import Shard
from spladerunner.bulk.vectors import Vectors
from spladerunner.bulk.writer import COUNTS
from spladerunner.distributed.worker import WorkerModel
from spladerunner.errors import InputError, OutputError, SpladeRunnerError
from spladerunner.expander import Expander
from spladerunner.filesystem import Folder
from spladerunner.parquet.parts import Job, Part, Parts, find_part, write_manifest
from spladerunner.readers.files import Input
from spladerunner.readers.lines import Start, starts_of_parts
from spladerunner.readers.records import BEIR, Fields


@dataclass(frozen=True)
class PartEncoder:
    """Encodes any part of a folder, on any worker, any number of times.

    inputs, folder: paths that every node has, or URLs.
    """

    model: WorkerModel
    inputs: tuple[Input, ...]
    folder: str
    job: Job
    vectors: Vectors
    fields: Fields
    skip_bad: bool

    def part(self, start: Start) -> Part:
        """Writes the part that begins at this line, unless it is there, whole, and of the same lines.

        Raises OutputError if it is there and of another job or of other lines, and InputError at a bad line.
        """
        folder, lines_of_part = Folder(self.folder), self.job["part_lines"]
        number = start.count // lines_of_part
        lines = islice(job_lines(self.inputs, self.fields, self.skip_bad, None, lines_of_part, start), lines_of_part)
        found = find_part(folder, number)
        if found is None:
            expander = self.model.open()
            writer = PartWriter(folder, self.job, expander.vocabulary, number, start.count)
            encode_lines(expander, lines, writer, self.vectors, self.job["format"], None, self.skip_bad, lambda _: None)
            return writer.parts[0]
        part, job = found
        compare(job, self.job, folder, self.folder)
        digest = ""
        for line in lines:
            digest = line.digest.hex()
        if digest != part.digest:
            raise OutputError(
                f"The inputs have changed: the lines of {part.name} differ from those that were encoded. Restore them, "
                f"or delete {self.folder} to start over.",
                path=self.folder,
            )
        return part

    def result(self, start: Start) -> bytes:
        """The part, or the error that it raises, pickled: an engine would try again what cannot succeed."""
        try:
            return pickle.dumps(self.part(start))
        except SpladeRunnerError as error:
            return pickle.dumps(error)


DOCUMENTS = Vectors()

Engine = Callable[[PartEncoder, Sequence[Start]], Iterable[bytes]]
"""Yields the results of the parts that begin at these lines, each once or more often, in any order."""


def encode_files(
    expander: Expander,
    threads: int,
    inputs: Sequence[Input],
    output: str,
    engine: Engine,
    *,
    vectors: Vectors = DOCUMENTS,
    format: str = "indices",
    fields: Fields = BEIR,
    part_lines: int = PART_LINES,
    skip_bad: bool = False,
) -> Progress:
    """Encodes the records of the inputs to a folder of parts on an engine.

    As bulk.encode, but an id is looked for only in its own part. Raises InputError if an input is a pipe, and
    ValueError if options do not fit each other.
    """
    vectors = vectors.for_model(expander)
    pipes = [source.name for source in inputs if source.size() is None]
    if pipes:
        raise InputError(f"{pipes[0]} cannot be read by several workers. Give files.")
    job = parquet_job(expander, job_options(expander, inputs, vectors, format, fields, Shard(), None), part_lines)
    folder = Folder(output)
    try:
        finished = begin(folder, job, output)
        encoder = PartEncoder(WorkerModel.of(expander, threads), tuple(inputs), output, job, vectors, fields, skip_bad)
        starts = list(starts_of_parts(inputs, part_lines)) or [Start()]
        complete = _complete(folder, job, starts, engine(encoder, starts))
    finally:
        folder.unlock()
    lines = sum(part.lines for part in complete.parts)
    counts = {key: sum(getattr(part, key) for part in complete.parts) for key in ("bad", *COUNTS)}
    return Progress(lines, lines, complete.rows, **counts, repeated=finished == complete)


def _complete(folder: Folder, job: Job, starts: Sequence[Start], results: Iterable[bytes]) -> Parts:
    parts: dict[int, Part] = {}
    for result in results:
        found = pickle.loads(result)
        if isinstance(found, SpladeRunnerError):
            raise found
        parts[found.first] = found
    if sorted(parts) != [start.count for start in starts]:
        raise SpladeRunnerError(f"The engine has given {len(parts)} of {len(starts)} parts. Repeat the command.")
    return write_manifest(folder, job, [parts[start.count] for start in starts])
