"""Parquet as the output of a job: a part, a folder of parts, or one file that is made of them.

A part holds the vectors of a number of lines. It appears whole or not at all, and says which job and which lines it is
of, so the parts are the state of the job: a resumed one begins after the last of the whole parts at the start. A file
is written from the parts in OUT.partial when all are there; each becomes a row group.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import count

from spladerunner.bulk.writer import COUNTS, START, State
from spladerunner.errors import OutputError
from spladerunner.filesystem import Folder, beside, parent_and_name
from spladerunner.parquet.parts import (
    COMPRESSION,
    MANIFEST,
    Job,
    Part,
    Parts,
    bad_name,
    file_metadata,
    find_file,
    find_part,
    is_part,
    open_parts,
    part_name,
    write_manifest,
    write_part,
)
from spladerunner.readers.records import Record
from spladerunner.vector import SparseVector
from spladerunner.vocabulary import Vocabulary


def begin(folder: Folder, job: Job, output: str) -> Parts | None:
    """Locks a folder for a job; returns its parts if the job has been finished.

    output: what messages name. Raises OutputError if another process writes the folder, or it holds something else.
    """
    names = folder.names()
    if MANIFEST in names:
        found = open_parts(folder.url)
        compare(found.job, job, folder, output)
        return found
    try:
        folder.lock()
    except BlockingIOError:
        raise OutputError(
            f"{folder.url} is being written by another process. Wait for it, or stop it.", path=output
        ) from None
    foreign = [name for name in names if not (is_part(name) or name.startswith((".", "_bad-")))]
    if foreign:
        raise OutputError(
            f"{folder.url} has other files: {foreign[:3]}. Give a folder that is new or empty.", path=output
        )
    return None


def compare(found: Job, job: Job, folder: Folder, output: str) -> None:
    """Raises OutputError if the job of a part differs from the one that is to be done."""
    for key, value in job.items():
        if found.get(key) != value:
            raise OutputError(
                f"{output} has parts of a job with another {key}: {found.get(key)!r}, not {value!r}. Repeat the "
                f"original command, give another output, or delete {folder.url} to start over.",
                path=output,
            )


class PartWriter:
    """Writer of one part, from the line `first`."""

    def __init__(self, folder: Folder, job: Job, vocabulary: Vocabulary, number: int, first: int) -> None:
        self._folder, self._job, self._vocabulary = folder, job, vocabulary
        self._number, self._first = number, first
        self._empty()
        self.finished = False
        self.state: State = {**START, "lines": first}
        self._counted = dict.fromkeys(COUNTS, 0)  # in the parts before this one
        self.parts: list[Part] = []

    @property
    def digests(self) -> Mapping[int, str]:
        """Digests of the parts that are there, by the lines up to their end."""
        done = {self.state["lines"]: self.state["digest"]} if self.finished else {}
        return done | {part.first + part.lines: part.digest for part in self.parts}

    def write(self, record: Record, vector: SparseVector) -> None:
        """Adds a row."""
        self._ids.append(record.id)
        self._vectors.append(vector)
        self.state["documents"] += 1

    def write_bad(self, line: str) -> None:
        """Adds a bad line."""
        self._bad.append(line)
        self.state["bad"] += 1

    def reached(self, lines: int, digest: str) -> None:
        """Records the lines that are in the part so far, and their digest."""
        self.state["lines"], self.state["digest"] = lines, digest

    def save(self) -> None:
        """Does nothing: a part is saved when it is whole."""

    def finish(self) -> None:
        """Writes the part."""
        lines = {"first": self._first, "lines": self.state["lines"] - self._first, "digest": self.state["digest"]}
        lines |= {key: self.state[key] - self._counted[key] for key in COUNTS}
        rows = self._ids, self._vectors
        self.parts.append(write_part(self._folder, self._job, self._number, rows, self._vocabulary, lines, self._bad))
        self._number, self._first = self._number + 1, self.state["lines"]
        self._counted = {key: self.state[key] for key in COUNTS}
        self._empty()

    def close(self) -> None:
        """Releases the folder."""
        self._folder.unlock()

    def _empty(self) -> None:
        self._ids: list[str] = []
        self._vectors: list[SparseVector] = []
        self._bad: list[str] = []


class FolderWriter(PartWriter):
    """Writer of a folder of parts and its manifest, which resumes an interrupted job that had the same options.

    first: the first line of the job. Raises OutputError if another process writes the folder, or it has other parts.
    """

    def __init__(self, url: str, job: Job, vocabulary: Vocabulary, first: int, output: str | None = None) -> None:
        super().__init__(Folder(url), json.loads(json.dumps(job)), vocabulary, 0, first)
        self._output = output or url
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def reached(self, lines: int, digest: str) -> None:
        """Records the lines that are written, and writes the part when it has all of its own."""
        super().reached(lines, digest)
        if lines - self._first == self._job["part_lines"]:
            super().finish()

    def finish(self) -> None:
        """Writes what is left, and the manifest."""
        if self.state["lines"] > self._first or not self.parts:
            super().finish()
        write_manifest(self._folder, self._job, self.parts)
        self.finished = True

    def _begin(self) -> None:
        complete = begin(self._folder, self._job, self._output)
        if complete is None:
            self._find_parts()
        else:
            self.parts = list(complete.parts)
            self.finished = True
        for part in self.parts:
            self._number, self._first = self._number + 1, part.first + part.lines
            self.state["documents"] += part.rows
            self.state["bad"] += part.bad
            self.state["lines"], self.state["digest"] = self._first, part.digest
            for key in COUNTS:
                self.state[key] += getattr(part, key)
        self._counted = {key: self.state[key] for key in COUNTS}

    def _find_parts(self) -> None:
        for number in count():
            found = find_part(self._folder, number)
            if found is None:
                break
            part, job = found
            compare(job, self._job, self._folder, self._output)
            if part.lines < self._job["part_lines"]:
                break  # the last one, unless the inputs have grown
            self.parts.append(part)


class FileWriter(FolderWriter):
    """Writer of one Parquet file, OUT, and of OUT.bad.jsonl, whose parts are in the folder OUT.partial until then."""

    def __init__(self, output: str, job: Job, vocabulary: Vocabulary, first: int) -> None:
        folder, self._name = parent_and_name(output)
        self._target = Folder(folder)
        bad = beside(output, ".bad.jsonl")
        stage = beside(output, ".partial")
        if self._name in self._target.names():
            found = find_file(output)
            if found is None or found[0] != json.loads(json.dumps(job)):
                raise OutputError(f"{output} exists already. Give another -o, or delete it.", path=output)
            PartWriter.__init__(self, Folder(stage), job, vocabulary, 0, first)
            self.state |= found[1]
            self._folder.remove()
            self.finished = True
            return
        super().__init__(stage, job, vocabulary, first, output)
        if self.finished:
            self._join()
        elif parent_and_name(bad)[1] in self._target.names():
            self.close()
            raise OutputError(f"{bad} exists already, from another job. Move or delete it.", path=output)

    def finish(self) -> None:
        """Writes what is left, and the file from the parts."""
        super().finish()
        self._join()

    def _join(self) -> None:
        from pyarrow import parquet

        bad = [bad_name(number) for number, part in enumerate(self.parts) if part.bad]
        if bad:
            with self._target.writing(f"{self._name}.bad.jsonl") as file:
                for name in bad:
                    file.write(self._folder.read(name))
        totals = json.dumps({key: self.state[key] for key in START})
        metadata = {**file_metadata(self._job), "spladerunner.totals": totals}
        with self._target.writing(self._name) as file:
            with self._folder.open(part_name(0)) as first:
                schema = parquet.read_schema(first).with_metadata(metadata)
            with parquet.ParquetWriter(file, schema, compression=COMPRESSION) as writer:
                for part in self.parts:
                    with self._folder.open(part.name) as source:
                        writer.write_table(parquet.read_table(source), row_group_size=max(part.rows, 1))
        self._folder.unlock()
        self._folder.remove()
