"""encode: files of texts to a file of vectors, in order; it resumes after an interruption."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path

import tokenizers

from spladerunner import __version__
from spladerunner.bulk.lines import JobLine, job_lines, remaining_lines
from spladerunner.bulk.parts import FileWriter, FolderWriter
from spladerunner.bulk.resume import Output, compression, files
from spladerunner.bulk.shard import Shard
from spladerunner.bulk.stream import Stream, is_stream
from spladerunner.bulk.vectors import Vectors, Windows
from spladerunner.bulk.writer import COUNTS, State, Writer
from spladerunner.errors import InputError, OutputError
from spladerunner.expander import Expander
from spladerunner.filesystem import is_url, without_query
from spladerunner.formats import DEFAULT, FORMATS, WITH_PAYLOAD
from spladerunner.inference.arena import ONNXRUNTIME_VERSION
from spladerunner.model.manifest import RoleName
from spladerunner.parquet import table
from spladerunner.parquet.parts import Job, is_part
from spladerunner.readers.files import STDIN, Input
from spladerunner.readers.records import BEIR, Fields, Record
from spladerunner.vector import SparseVector
from spladerunner.vocabulary import Vocabulary

SAVE_SECONDS = 5.0
"""Seconds between two saves: the most work that is lost when the process is killed."""

PROGRESS_SECONDS = 0.1

PART_LINES = 10_000
"""Lines of a Parquet part: about 10 MB of vectors, and the most work that is lost when the process is killed."""

ALL = Shard()


@dataclass(frozen=True)
class Progress:
    """Progress of a job.

    lines: the lines of the shard that are done: documents, bad lines and blank lines. total: all lines of the shard,
    or None if the input is a pipe. documents: records that were written. cut: texts that the model did not read to
    their end. tokens: those of all texts. lost: those that were not read. Special tokens do not count.
    repeated: the job had been finished by an earlier call.
    """

    lines: int
    total: int | None
    documents: int
    bad: int
    cut: int = 0
    tokens: int = 0
    lost: int = 0
    repeated: bool = False


def encode(
    expander: Expander,
    inputs: Sequence[Input],
    output: str | PathLike[str],
    *,
    role: RoleName = "doc",
    format: str | None = None,
    fields: Fields = BEIR,
    shard: Shard = ALL,
    part_lines: int = PART_LINES,
    skip_bad: bool = False,
    windows: Windows | None = None,
    overlap: int | None = None,
    min_weight: float | None = None,
    max_ratio: float | None = None,
    top: int | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    r"""Encodes each record of the inputs and writes its vector to `output`, which must not exist.

    output: a file of lines, compressed if the name ends in .gz or .zst; a Parquet file, if it ends in .parquet; or a
    folder of Parquet parts, if it ends in / or is a folder. Parquet may be written to any URL that PyArrow knows.
    "-", a pipe or a device gets lines, and cannot be resumed.

    If the process is killed, the same call resumes the job, and the output is byte for byte that of an uninterrupted
    one. The inputs are read again from the start, which also detects changes in the lines that are done; the others may
    change, for example if a bad line is fixed. The same call after the end finds everything done and writes nothing.

    format: a key of formats.FORMATS, by default "json"; in Parquet "indices", the default, or "json" for maps of token
    to weight. fields: the names in JSON Lines and Parquet, and those that travel along into formats with a payload.
    shard: the part of the input.
    part_lines: lines of the inputs in a part of a folder, or in a row group of a Parquet file.
    skip_bad: bad lines go to `output`.bad.jsonl, or of a stream to standard error, instead of raising InputError.
    windows: reads long texts whole, in windows of the model's length: "max" joins them by the largest weight of each
    token, "passages" writes a record for each, with ids such as doc#0. overlap: tokens that neighboring windows share;
    a quarter of the length by default. min_weight, max_ratio, top: see SparseVector.prune.
    progress: called at the start, at the end, and at most ten times a second between.

    Raises InputError if a line is bad or a file is damaged, OutputError if the output exists or belongs to another
    job, ValueError if options do not fit each other, and OSError, for example if the disk is full. The work saved
    before an error is kept.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     corpus, vectors = Path(folder, "corpus.tsv"), Path(folder, "vectors.jsonl")
    ...     _ = corpus.write_text("d1\tThe Manhattan Project and its atomic bomb\n")
    ...     progress = encode(Expander(), [Input(str(corpus))], vectors)
    ...     print(progress.documents, vectors.read_text()[:25])
    1 {"id": "d1", "vector": {"
    """
    output = os.fspath(output)
    vectors = Vectors(role, windows, overlap, min_weight, max_ratio, top).for_model(expander)
    total = _count_lines(inputs)
    if shard.of > 1 and total is None:
        raise InputError("Standard input and pipes cannot be sharded: their length is unknown. Give files.")
    part = shard.lines(total) if total is not None else None
    in_parquet = is_parquet(output)
    format = format or ("indices" if in_parquet else DEFAULT)
    _check_kept(inputs, fields, format, in_parquet)
    options = job_options(expander, inputs, vectors, format, fields, shard, total)
    if not is_url(output) and not is_stream(output):
        _check_apart(inputs, _written(output, in_parquet))
    writer: Writer
    if in_parquet:
        if format not in table.FORMATS:
            raise ValueError(f"format={format!r} is not a format of vectors in Parquet: {', '.join(table.FORMATS)}")
        kind = FileWriter if without_query(output).endswith(".parquet") else FolderWriter
        first = part.start if part is not None else 0
        writer = kind(output, parquet_job(expander, options, part_lines), expander.vocabulary, first)
    elif is_url(output):
        raise OutputError(
            f"{output} would be a file of lines, which can be written only on this machine. Write Parquet: end it in "
            ".parquet, or in / for a folder of parts.",
            path=output,
        )
    else:
        line = _line_formatter(format, fields, expander.vocabulary)
        path = Path(output)
        writer = Stream(output, line) if is_stream(output) else Output(path, options, line, compression(output))
    try:
        lines = job_lines(inputs, fields, skip_bad, part, part_lines if in_parquet else None)
        if writer.finished:
            _check_done(lines, writer, part, output)
            return replace(progress_of(writer.state, part), repeated=True)
        return encode_lines(expander, lines, writer, vectors, format, part, skip_bad, progress)
    finally:
        writer.close()


def is_parquet(output: str) -> bool:
    """True if an output is a Parquet file or a folder of parts.

    >>> is_parquet("vectors.parquet"), is_parquet("s3://bucket/vectors/"), is_parquet("vectors.jsonl")
    (True, True, False)
    """
    return without_query(output).endswith((".parquet", "/")) or (not is_url(output) and Path(output).is_dir())


def _line_formatter(format: str, fields: Fields, vocabulary: Vocabulary) -> Callable[[Record, SparseVector], str]:
    if fields.keep:
        with_payload = WITH_PAYLOAD[format]
        return lambda record, vector: with_payload(record.id, vector, vocabulary, record.kept)
    line = FORMATS[format]
    return lambda record, vector: line(record.id, vector, vocabulary)


def _check_kept(inputs: Sequence[Input], fields: Fields, format: str, in_parquet: bool) -> None:
    """Raises ValueError or InputError if fields shall be kept where there are none, or where they have no place."""
    if not fields.keep:
        return
    if in_parquet or format not in WITH_PAYLOAD:
        raise ValueError(
            f"keep={fields.keep}: {'Parquet' if in_parquet else repr(format)} has no place for other fields. These "
            f"formats of lines have one: {', '.join(WITH_PAYLOAD)}"
        )
    for source in inputs:
        if source.kind in ("tsv", "text"):
            raise InputError(
                f"{source.name} has no fields to keep. Only JSON Lines and Parquet have.", path=source.path
            )


def _written(output: str, in_parquet: bool) -> list[Path]:
    """The files that a job writes or reads back, of those that exist."""
    paths = list(files(Path(output)))
    if in_parquet:
        there = [*Path(output).glob("*"), *Path(f"{output}.partial").glob("*")]
        paths += [path for path in there if is_part(path.name) or path.name.startswith((".", "_"))]
    return [path for path in paths if path.exists()]


def _check_apart(inputs: Sequence[Input], written: Sequence[Path]) -> None:
    """Raises OutputError if an input is one of the files that the job writes, under any path."""
    for source in inputs:
        for path in written:
            if source.path != STDIN and not is_url(source.path) and path.samefile(source.path):
                raise OutputError(
                    f"{source.path} is an input, and also {path}, which the job would write. Give another -o.",
                    path=path,
                )


def _check_done(lines: Iterator[JobLine], writer: Writer, part: range | None, output: str) -> None:
    """Raises OutputError if the lines are not those from which a finished job has made the output."""
    first = part.start if part is not None else 0
    try:
        changed = next(remaining_lines(lines, first, writer.state["lines"], writer.digests), None) is not None
    except (InputError, OutputError):
        changed = True
    if changed:
        raise OutputError(
            f"{output} exists already, and its inputs have changed since then. Give another -o, or delete it.",
            path=output,
        )


def parquet_job(expander: Expander, options: State, part_lines: int) -> Job:
    """The options of a job, as the metadata of its Parquet files has them."""
    return {**options, "model": expander.name, "fingerprint": expander.fingerprint, "part_lines": part_lines}


def encode_lines(
    expander: Expander,
    lines: Iterator[JobLine],
    writer: Writer,
    vectors: Vectors,
    format: str,
    part: range | None,
    skip_bad: bool,
    progress: Callable[[Progress], None],
) -> Progress:
    """Encodes the lines, those of `part` if it is given, and writes them in their order."""
    state = writer.state
    waiting: deque[JobLine] = deque()  # read, but not yet written; records wait for their vectors

    def texts() -> Iterator[str]:
        first = part.start if part is not None else 0
        for line in remaining_lines(lines, first, state["lines"], writer.digests):
            waiting.append(line)
            write_lines_without_text()
            if line.line.record is not None:
                yield line.line.record.text

    def write_lines_without_text() -> None:
        """Writes the bad lines, and passes the blank ones, that no vector has to precede."""
        while waiting and waiting[0].line.record is None:
            line = waiting.popleft()
            if line.line.problem:
                writer.write_bad(line.as_bad(line.line.problem))
            writer.reached(line.count, line.digest.hex())

    progress(progress_of(state, part))
    saved = shown = time.monotonic()
    try:
        for passage in vectors.of(expander, texts()):
            write_lines_without_text()
            line = waiting[0]
            record = line.line.record
            assert record is not None
            if vectors.windows == "passages":
                record = replace(record, id=f"{record.id}#{passage.number}")
            try:
                writer.write(record, passage.vector)
            except ValueError as error:
                problem = f"{record.id!r} cannot be written as {format}: {error}"
                if not skip_bad:
                    raise line.error(problem) from error
                writer.write_bad(line.as_bad(problem))
            if not vectors.is_last(passage):
                continue
            waiting.popleft()
            state["cut"] += passage.end < passage.tokens
            state["tokens"] += passage.tokens
            state["lost"] += passage.tokens - passage.end
            writer.reached(line.count, line.digest.hex())
            now = time.monotonic()
            if now - saved >= SAVE_SECONDS:
                writer.save()
                saved = now
            if now - shown >= PROGRESS_SECONDS:
                progress(progress_of(state, part))
                shown = now
    except InputError:  # raised between two lines; a signal may come after a write and before its reached()
        writer.save()
        raise
    write_lines_without_text()
    writer.finish()
    progress(progress_of(state, part))
    return progress_of(state, part)


def progress_of(state: State, part: range | None) -> Progress:
    """The progress of a job in this state."""
    first, total = (part.start, len(part)) if part is not None else (0, None)
    counts = {key: state[key] for key in ("documents", "bad", *COUNTS)}
    return Progress(max(state["lines"] - first, 0), total, **counts)


def _count_lines(inputs: Sequence[Input]) -> int | None:
    sizes = [source.size() for source in inputs]
    return None if None in sizes else sum(source.count() for source in inputs)


def job_options(
    expander: Expander,
    inputs: Sequence[Input],
    vectors: Vectors,
    format: str,
    fields: Fields,
    shard: Shard,
    total: int | None,
) -> State:
    """Options that a resumed job must share. skip_bad may differ: it has no effect before the first bad line.

    The lines that are done are compared by their digest. A shard's lines also depend on how many there are in all.
    """
    options = {
        "model": f"{expander.name} {expander.fingerprint}",
        **asdict(vectors),
        "format": format,
        "input": [[source.path, source.kind] for source in inputs],
        "fields": asdict(fields),
        "shard": str(shard),
        "number of input lines": total if shard.of > 1 else None,
        "spladerunner": __version__,
        "onnxruntime": ONNXRUNTIME_VERSION,
        "tokenizers": tokenizers.__version__,
    }
    read_back: State = json.loads(json.dumps(options))
    return read_back
