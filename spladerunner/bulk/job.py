"""The encoder of files: from the lines of the inputs to lines of vectors, in order, and on from where it was killed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from os import PathLike
from pathlib import Path

import tokenizers

from spladerunner.bulk.lines import BadLine, Line, lines_after, read_lines
from spladerunner.bulk.resume import Output, State
from spladerunner.bulk.shard import Shard
from spladerunner.errors import InputError, OutputError
from spladerunner.expander import Expander
from spladerunner.formats import FORMATS
from spladerunner.inference.session import ONNXRUNTIME_VERSION
from spladerunner.model.manifest import RoleName
from spladerunner.readers.files import Input
from spladerunner.readers.records import BEIR, Fields, Record

SAVE_SECONDS = 5.0
"""How much work a kill can cost, in seconds."""

WHOLE = Shard()


@dataclass(frozen=True)
class Done:
    """How far an encoding is. lines, of `total` if that is known, are documents and bad lines of this part."""

    lines: int
    total: int | None
    documents: int
    bad: int


def encode(
    expander: Expander,
    inputs: Sequence[Input],
    output: str | PathLike[str],
    *,
    role: RoleName = "doc",
    format: str = "json",
    fields: Fields = BEIR,
    shard: Shard = WHOLE,
    skip_bad: bool = False,
    progress: Callable[[Done], None] = lambda _: None,
) -> Done:
    """Writes a line in the format for each record of the inputs to the file `output`, which must not exist.

    Killed at any moment and called again with the same arguments, it goes on where it was, and the file is byte for
    byte that of an undisturbed run. To do so it reads the inputs again up to there, which also shows whether they
    are the same still. Bad lines raise an InputError, or go to `output`.bad.jsonl with skip_bad.

    progress hears how far it is: at the start, at every save, and at most ten times a second between.
    Raises InputError, OutputError, and OSError where the disk is full; what was saved is kept.
    """
    output = Path(output)
    if output.suffix in (".gz", ".zst"):
        raise OutputError(f"{output} would be compressed, which cannot be resumed. Write it plain, then compress it.")
    total = _total(inputs)
    if shard.of > 1 and total is None:
        raise InputError("Standard input and pipes cannot be split into parts: their length is unknown. Give files.")
    part = shard.lines(total) if total is not None else None
    writer = Output(output, _options(expander, inputs, role, format, fields, shard))
    try:
        if writer.finished:
            count = max(writer.state["lines"] - (part.start if part is not None else 0), 0)
            return Done(count, count, writer.state["documents"], count - writer.state["documents"])
        return _encode(
            expander, read_lines(inputs, fields, skip_bad, part), writer, role, format, part, skip_bad, progress
        )
    finally:
        writer.close()


def _encode(
    expander: Expander,
    lines: Iterator[Line],
    writer: Output,
    role: RoleName,
    format: str,
    part: range | None,
    skip_bad: bool,
    progress: Callable[[Done], None],
) -> Done:
    state, line_of = writer.state, FORMATS[format]
    first, total = (part.start, len(part)) if part is not None else (0, None)
    waiting: deque[Line] = deque()

    def texts() -> Iterator[str]:
        for line in lines_after(state["lines"], state["digest"], first, lines):
            waiting.append(line)
            write_bad()  # where no vector is awaited before it
            if isinstance(line.content, Record):
                yield line.content.text

    def write_bad() -> None:
        while waiting and isinstance(waiting[0].content, BadLine):
            line = waiting.popleft()
            assert isinstance(line.content, BadLine)
            writer.write_bad(line.content.json())
            writer.reached(line.number, line.digest.hex())

    def done() -> Done:
        count: int = max(state["lines"] - first, 0)
        return Done(count, total, state["documents"], count - state["documents"])

    progress(done())
    saved = told = time.monotonic()
    try:
        for vector in expander.stream(texts(), role=role):
            write_bad()
            line = waiting.popleft()
            assert isinstance(line.content, Record)
            try:
                writer.write(line_of(line.content.id, vector, expander.vocabulary))
            except ValueError as error:
                reason = f"{line.content.id!r} cannot be written as {format}: {error}"
                if not skip_bad:
                    raise line.error(reason) from error
                writer.write_bad(line.bad(reason).json())
            writer.reached(line.number, line.digest.hex())
            now = time.monotonic()
            if now - saved >= SAVE_SECONDS:
                writer.save()
                saved = now
            if now - told >= 0.1:
                progress(done())
                told = now
    except InputError:  # between two lines; a signal may come anywhere, where what is counted is not yet written
        writer.save()
        raise
    write_bad()
    writer.finish()
    progress(done())
    return done()


def _total(inputs: Sequence[Input]) -> int | None:
    sizes = [source.size() for source in inputs]
    return None if None in sizes else sum(source.count() for source in inputs)


def _options(
    expander: Expander,
    inputs: Sequence[Input],
    role: str,
    format: str,
    fields: Fields,
    shard: Shard,
) -> State:
    """What must be the same on resume. skip_bad need not: it changes nothing before the first bad line."""
    return {
        "model": f"{expander.name} {expander.fingerprint}",
        "role": role,
        "format": format,
        "input": [[source.path, source.kind, source.size()] for source in inputs],
        "fields": asdict(fields),
        "shard": str(shard),
        "spladerunner": version("spladerunner"),
        "onnxruntime": ONNXRUNTIME_VERSION,
        "tokenizers": tokenizers.__version__,
    }
