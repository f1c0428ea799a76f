"""Runs on a worker: an Expander, opened once in its process, and compared with the driver's."""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import tokenizers

from spladerunner import __version__
from spladerunner.errors import InputError, ModelFilesError
from spladerunner.expander import Expander
from spladerunner.inference.arena import ONNXRUNTIME_VERSION
from spladerunner.model.hub import fetch
from spladerunner.model.manifest import RoleName
from spladerunner.parquet import table
from spladerunner.readers.records import BEIR, Fields, parse_row
from spladerunner.vector import SparseVector


def versions() -> dict[str, str]:
    """The versions that vectors depend on."""
    return {"spladerunner": __version__, "onnxruntime": ONNXRUNTIME_VERSION, "tokenizers": tokenizers.__version__}


@dataclass(frozen=True)
class WorkerModel:
    """Arguments by which a worker opens its Expander, and the driver's fingerprint and versions, which it must match.

    arguments: of Expander, as a sorted tuple of pairs, but for threads.
    """

    arguments: tuple[tuple[str, Any], ...]
    threads: int
    fingerprint: str
    versions: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, expander: Expander, threads: int) -> WorkerModel:
        """The model of the driver's Expander, with a worker's number of threads."""
        opening, _ = expander.__reduce__()  # as it is pickled: by its arguments
        arguments = {**opening.keywords, "threads": threads}
        frozen = tuple(sorted((name, _frozen(value)) for name, value in arguments.items()))
        return cls(frozen, threads, expander.fingerprint, tuple(versions().items()))

    def open(self) -> Expander:
        """The Expander of this process, opened by the first call.

        Raises ModelFilesError if the model or a version is another than the driver's, and what Expander raises.
        """
        return _open(self)


@cache
def _open(model: WorkerModel) -> Expander:
    arguments: dict[str, Any] = dict(model.arguments)
    with _one_at_a_time(str(arguments["model"])):  # one worker of a node downloads; the others find it in the cache
        fetch(arguments["model"], revision=arguments["revision"])
    if isinstance(arguments["max_length"], tuple):
        arguments["max_length"] = dict(arguments["max_length"])
    expander = Expander(**arguments)
    expected: dict[str, str] = {"fingerprint": model.fingerprint, **dict(model.versions)}
    found = {"fingerprint": expander.fingerprint, **versions()}
    different = {name: (value, found[name]) for name, value in expected.items() if value != found[name]}
    if different:
        says = "; ".join(f"{name} {other}, not {value}" for name, (value, other) in different.items())
        raise ModelFilesError(
            f"The worker on {platform.node()} would make other vectors than the driver: it has {says}. Give every node "
            "the same model and the same versions.",
            path=str(arguments["model"]),
            expected=expected,
            found=found,
        )
    return expander


def _frozen(value: Any) -> Any:
    return tuple(sorted(value.items())) if isinstance(value, dict) else value


@contextmanager
def _one_at_a_time(name: str) -> Iterator[None]:
    """Lets one process of this machine at a time fetch a model."""
    if os.name != "posix":
        yield
        return
    import fcntl

    path = Path(
        tempfile.gettempdir(), f"spladerunner-{os.getuid()}-{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"
    )
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class TableEncoder:
    """Adds columns of vectors to Arrow tables: indices and values, or vector.

    model: what to encode with. role: "doc" or "query". fields: names of the columns. format: "indices" or "json".
    problem: a column for the reason why a row is bad; None raises InputError at the first bad row.
    """

    model: WorkerModel
    role: RoleName = "doc"
    fields: Fields = BEIR
    format: str = "indices"
    problem: str | None = None
    _added: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        if self.format not in table.FORMATS:
            raise ValueError(f"format={self.format!r} is not one of: {', '.join(table.FORMATS)}")
        names = [each.name for each in table.fields(self.format)]
        object.__setattr__(self, "_added", (*names, *([self.problem] if self.problem else [])))

    def check(self, names: Iterable[str]) -> None:
        """Raises InputError if a column is missing that is needed, or there that would be added."""
        names = list(names)
        for name in (self.fields.id, self.fields.text):
            if name not in names:
                raise InputError(f"There is no column {name!r} among {names}. Give the names as fields=Fields(...).")
        for name in self._added:
            if name in names:
                raise InputError(f"There is a column {name!r} already. Rename it, or drop it.")

    def batches(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Encodes Arrow record batches, each when it is asked for."""
        for batch in batches:
            yield from self.table(table.pyarrow().Table.from_batches([batch])).to_batches()

    def table(self, found: Any) -> Any:
        """Encodes an Arrow table. Raises InputError at a bad row, unless they have a column."""
        pa = table.pyarrow()
        self.check(found.schema.names)
        wanted = [name for name in (self.fields.id, self.fields.title, self.fields.text) if name in found.schema.names]
        texts: list[str] = []
        places: list[int | None] = []  # of each row's vector, None for a bad row
        problems: list[str | None] = []
        for row in found.select(wanted).to_pylist():
            try:
                texts.append(parse_row(row, self.fields).text)
            except ValueError as error:
                if self.problem is None:
                    raise InputError(
                        f"The row with the {self.fields.id} {row[self.fields.id]!r} is bad: {error}. Fix it, or name "
                        "a column for such reasons as problem=..."
                    ) from error
                problems.append(str(error))
                places.append(None)
            else:
                problems.append(None)
                places.append(len(texts) - 1)
        expander = self.model.open()
        vectors: list[SparseVector] = expander.encode(texts, role=self.role)
        arrays = table.columns(self.format, vectors, expander.vocabulary)
        for column in table.fields(self.format):
            found = found.append_column(
                column, arrays[column.name].take(pa.array(places, pa.int32())).cast(column.type)
            )
        if self.problem is not None:
            found = found.append_column(pa.field(self.problem, pa.string()), pa.array(problems, pa.string()))
        return found
