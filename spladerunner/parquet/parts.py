"""A folder of parts: Parquet files of bounded size, and a manifest, written last, that lists them.

A part is a function of its job and of the lines that it holds, both of which are in its schema's metadata. So parts
need no order, no lock and no other record: whoever finds a whole part of the same job need not make it again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from spladerunner.errors import InputError, OutputError
from spladerunner.filesystem import Folder, parent_and_name, resolve
from spladerunner.parquet import table
from spladerunner.vector import SparseVector
from spladerunner.vocabulary import Vocabulary

MANIFEST = "_manifest.json"
"""Engines that read folders of Parquet files pass over names that begin with an underscore."""

SCHEMA = 1
COMPRESSION = "zstd"

Job = dict[str, Any]
"""All that the vectors and the lines of a part depend on: model, fingerprint, role, format, input, versions."""


@dataclass(frozen=True)
class Part:
    """A file of a folder: its name, rows, size and SHA-256, and the lines of the inputs that it holds.

    first, lines: the lines of all inputs, counted together from 0. bad: those that are in its file of bad lines.
    digest: SHA-256 over the lines. cut: texts that the model does not read to their end. tokens: those of all texts.
    lost: those that are not read.
    """

    name: str
    rows: int
    bytes: int
    sha256: str
    fingerprint: str
    first: int
    lines: int
    bad: int
    digest: str
    cut: int = 0
    tokens: int = 0
    lost: int = 0


@dataclass(frozen=True)
class Parts:
    """A complete folder of parts, by its manifest.

    url: the folder. model, fingerprint, role: of the Expander that made all vectors. parts: in the order of the inputs.
    job: all options of the encoding.
    """

    url: str
    model: str
    fingerprint: str
    role: str
    parts: tuple[Part, ...]
    job: Job

    @property
    def rows(self) -> int:
        """The vectors of all parts.

        >>> parts = Parts("vectors", "tiny-en", "f1", "doc", (Part("p", 7, 900, "", "f1", 0, 8, 1, ""),), {})
        >>> parts.rows
        7
        """
        return sum(part.rows for part in self.parts)

    def vectors(
        self, part: Part | None = None, vocabulary: Vocabulary | None = None
    ) -> Iterator[tuple[str, SparseVector]]:
        """Reads the id and the vector of each row: of all parts in order, or of one of them, for a parallel load.

        vocabulary: needed for maps of token to weight. Raises InputError if a file is missing or damaged, or comes from
        another model.

        >>> list(Parts("vectors", "tiny-en", "f1", "doc", (), {}).vectors())
        []
        """
        folder = Folder(self.url)
        for each in self.parts if part is None else [part]:
            yield from _read_file(folder, each.name, vocabulary, self.fingerprint)

    def check(self) -> None:
        """Reads every part and compares its SHA-256 with the manifest. Raises InputError if they differ.

        >>> Parts("vectors", "tiny-en", "f1", "doc", (), {}).check()
        """
        folder = Folder(self.url)
        for part in self.parts:
            found = sha256(folder.read(part.name)).hexdigest()
            if found != part.sha256:
                raise _refused(
                    folder, f"{part.name} has SHA-256 {found}, but {MANIFEST} says {part.sha256}. Copy it again."
                )


def open_parts(folder: str) -> Parts:
    """Opens a folder of parts, and refuses one that is incomplete or mixed.

    folder: a path, or a URL that PyArrow knows. Reads the manifest and lists the files; Parts.check() also reads them.
    Raises InputError if there is no manifest, or if the parts are others than it says.

    >>> open_parts("no-such-folder")
    Traceback (most recent call last):
    spladerunner.errors.InputError: no-such-folder has no _manifest.json: ...
    """
    opened = Folder(folder)
    try:
        manifest = json.loads(opened.read(MANIFEST))
        found = Parts(
            folder,
            manifest["model"],
            manifest["fingerprint"],
            manifest["role"],
            tuple(Part(**part) for part in manifest["parts"]),
            manifest["job"],
        )
    except FileNotFoundError:
        raise _refused(
            opened, f"no {MANIFEST}: it is not a folder of parts, or not complete yet. Run the command that writes it."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise _refused(
            opened, f"a {MANIFEST} that is damaged, or from another version of spladerunner: {error!r}."
        ) from error
    names = {part.name for part in found.parts}
    there = {name for name in opened.names() if is_part(name)}
    if names != there:
        lacking, foreign = sorted(names - there), sorted(there - names)
        raise _refused(
            opened,
            f"not the parts that {MANIFEST} lists: {len(lacking)} are missing {lacking[:3]}, and {len(foreign)} belong "
            f"to another set {foreign[:3]}. Run the command that wrote it, or copy it again.",
        )
    mixed = [part.name for part in found.parts if part.fingerprint != found.fingerprint]
    if mixed:
        raise _refused(opened, f"parts by another model or with other options: {mixed[:3]}.")
    return found


def read_vectors(path: str, vocabulary: Vocabulary | None = None) -> Iterator[tuple[str, SparseVector]]:
    r"""Reads the id and the vector of each row of a Parquet file, or of a folder of parts.

    path: a path, or a URL that PyArrow knows. vocabulary: needed for maps of token to weight.
    Raises InputError as open_parts does, or if the file is damaged or has other columns.

    >>> from tempfile import TemporaryDirectory
    >>> from spladerunner import Expander
    >>> from spladerunner.bulk import encode
    >>> from spladerunner.readers import Input
    >>> with TemporaryDirectory() as folder:
    ...     with open(f"{folder}/corpus.tsv", "w") as corpus:
    ...         _ = corpus.write("d1\tThe Moon orbits the Earth")
    ...     _ = encode(Expander(), [Input(f"{folder}/corpus.tsv")], f"{folder}/vectors.parquet")
    ...     [(name, len(vector) > 0) for name, vector in read_vectors(f"{folder}/vectors.parquet")]
    [('d1', True)]
    """
    filesystem, found = resolve(path)
    if filesystem.get_file_info(found).is_file:
        folder, name = parent_and_name(path)
        yield from _read_file(Folder(folder), name, vocabulary, None)
    else:
        yield from open_parts(path).vectors(vocabulary=vocabulary)


def is_part(name: str) -> bool:
    """True if a file of a folder is a part.

    >>> is_part(part_name(7)), is_part(MANIFEST)
    (True, False)
    """
    return name.startswith("part-") and name.endswith(".parquet")


def part_name(number: int) -> str:
    """The name of a part, which sorts by its number.

    >>> part_name(7)
    'part-000007.parquet'
    """
    return f"part-{number:06}.parquet"


def bad_name(number: int) -> str:
    """The name of a part's file of bad lines.

    >>> bad_name(7)
    '_bad-000007.jsonl'
    """
    return f"_bad-{number:06}.jsonl"


def file_metadata(job: Job) -> dict[str, str]:
    """Metadata in the schema of each file of a job: the model, its fingerprint, the role, and the whole job as JSON.

    >>> file_metadata({"model": "tiny-en", "fingerprint": "f1", "role": "doc"})["spladerunner.fingerprint"]
    'f1'
    """
    named = {f"spladerunner.{key}": str(job[key]) for key in ("model", "fingerprint", "role")}
    return {**named, "spladerunner.job": json.dumps(job, sort_keys=True)}


def write_part(
    folder: Folder,
    job: Job,
    number: int,
    rows: tuple[Sequence[str], Sequence[SparseVector]],
    vocabulary: Vocabulary,
    lines: Mapping[str, Any],
    bad: Sequence[str],
) -> Part:
    """Writes a part, and its bad lines before it; both whole or not at all. Raises OSError.

    rows: ids and vectors. lines: the first line, their number, their digest, and counts of their texts, under the names
    of Part. bad: bad lines as JSON.
    """
    from pyarrow import parquet

    about = {**lines, "bad": len(bad)}
    metadata = {**file_metadata(job), "spladerunner.part": json.dumps(about)}
    buffer = io.BytesIO()
    made = table.table(*rows, vocabulary, job["format"], metadata)
    parquet.write_table(made, buffer, compression=COMPRESSION, row_group_size=max(made.num_rows, 1))
    content = buffer.getvalue()
    if bad:
        folder.write(bad_name(number), "".join(f"{line}\n" for line in bad).encode())
    folder.write(part_name(number), content)
    return _part(part_name(number), made.num_rows, content, job["fingerprint"], about)


def find_part(folder: Folder, number: int) -> tuple[Part, Job] | None:
    """Reads a part and the job that it belongs to; None if it is not there, or not whole."""
    from pyarrow import ArrowException, parquet

    name = part_name(number)
    try:
        content = folder.read(name)
        found = parquet.ParquetFile(io.BytesIO(content))
        metadata = found.schema_arrow.metadata
        job, about = (json.loads(metadata[f"spladerunner.{key}".encode()]) for key in ("job", "part"))
        part = _part(name, found.metadata.num_rows, content, job["fingerprint"], about)
        if part.bad and bad_name(number) not in folder.names():
            return None
        return part, job
    except (FileNotFoundError, ArrowException, ValueError, KeyError, TypeError):
        return None


def write_manifest(folder: Folder, job: Job, parts: Sequence[Part]) -> Parts:
    """Deletes unfinished files, and writes the manifest, which makes the folder complete.

    Raises OutputError if the folder has other parts, and OSError.
    """
    foreign = {name for name in folder.names() if is_part(name)} - {part.name for part in parts}
    if foreign:
        raise OutputError(
            f"{folder.url} has parts of another input: {sorted(foreign)[:3]}. Delete them, and repeat the command.",
            path=folder.url,
        )
    manifest = {
        "schema": SCHEMA,
        "model": job["model"],
        "fingerprint": job["fingerprint"],
        "role": job["role"],
        "rows": sum(part.rows for part in parts),
        "bad": sum(part.bad for part in parts),
        "job": job,
        "parts": [asdict(part) for part in parts],
    }
    folder.delete(*(name for name in folder.names() if name.startswith(".")))  # of killed processes
    folder.write(MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    return Parts(folder.url, job["model"], job["fingerprint"], job["role"], tuple(parts), job)


def find_file(path: str) -> tuple[Job, dict[str, Any]] | None:
    """Reads the job and the totals in the metadata of a Parquet file; None if a job has not written it."""
    from pyarrow import ArrowException, parquet

    filesystem, found = resolve(path)
    try:
        metadata = parquet.read_schema(found, filesystem=filesystem).metadata or {}
        job, totals = (json.loads(metadata[f"spladerunner.{key}".encode()]) for key in ("job", "totals"))
    except (ArrowException, OSError, ValueError, KeyError):
        return None
    return job, totals


def _part(name: str, rows: int, content: bytes, fingerprint: str, about: Mapping[str, Any]) -> Part:
    digest = sha256(content).hexdigest()
    return Part(name, rows, len(content), digest, fingerprint, **about)


def _read_file(
    folder: Folder, name: str, vocabulary: Vocabulary | None, fingerprint: str | None
) -> Iterator[tuple[str, SparseVector]]:
    from pyarrow import ArrowException, parquet

    try:
        with folder.open(name) as file:
            opened = parquet.ParquetFile(file)
            made_by = (opened.schema_arrow.metadata or {}).get(b"spladerunner.fingerprint", b"").decode()
            if fingerprint is not None and made_by != fingerprint:
                raise _refused(
                    folder, f"{name} by a model with the fingerprint {made_by!r}, but {MANIFEST} says {fingerprint!r}."
                )
            for batch in opened.iter_batches(batch_size=1024):
                yield from table.rows(batch, vocabulary)
    except (ArrowException, OSError) as error:
        raise InputError(
            f"{folder.path(name)} is damaged or missing: {error}. Copy it again.", path=folder.path(name)
        ) from error


def _refused(folder: Folder, problem: str) -> InputError:
    return InputError(f"{folder.url} has {problem}", path=folder.url)
