"""Vectors as Arrow columns, and back, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from spladerunner.errors import InputError, requires_extra
from spladerunner.vector import SparseVector
from spladerunner.vocabulary import Vocabulary

FORMATS = ("indices", "json")
"""Formats of a vector in Parquet: two lists, or a map of token to weight, as in lines of the same format."""


def columns(format: str, vectors: Sequence[SparseVector], vocabulary: Vocabulary) -> dict[str, Any]:
    """The Arrow arrays of a format: indices and values, or vector, a map of token to weight, heaviest first.

    >>> arrays = columns("indices", [SparseVector([3, 7], [0.5, 2.0])], Vocabulary([], []))
    >>> {name: array.to_pylist() for name, array in arrays.items()}
    {'indices': [[3, 7]], 'values': [[0.5, 2.0]]}
    """
    pa = pyarrow()
    offsets = pa.array(np.cumsum([0, *map(len, vectors)]), pa.int32())
    if format == "indices":
        indices = pa.array(_joined([vector.indices for vector in vectors], np.int32))
        values = pa.array(_joined([vector.values for vector in vectors], np.float32))
        return {
            "indices": pa.ListArray.from_arrays(offsets, indices),
            "values": pa.ListArray.from_arrays(offsets, values),
        }
    orders = [vector.by_weight() for vector in vectors]
    pairs = list(zip(vectors, orders, strict=True))
    indices = pa.array(_joined([vector.indices[order] for vector, order in pairs], np.int32))
    values = pa.array(_joined([vector.values[order] for vector, order in pairs], np.float32))
    tokens = pa.array(vocabulary.tokens, pa.string()).take(indices)
    return {"vector": pa.MapArray.from_arrays(offsets, tokens, values)}


def fields(format: str) -> list[Any]:
    """The Arrow fields of a format's columns.

    >>> [str(field.type) for field in fields("indices")]
    ['list<element: int32>', 'list<element: float>']
    """
    pa = pyarrow()
    if format == "indices":
        return [
            pa.field("indices", pa.list_(pa.field("element", pa.int32()))),
            pa.field("values", pa.list_(pa.field("element", pa.float32()))),
        ]
    return [pa.field("vector", pa.map_(pa.string(), pa.float32()))]


def table(
    ids: Sequence[str],
    vectors: Sequence[SparseVector],
    vocabulary: Vocabulary,
    format: str,
    metadata: Mapping[str, str],
) -> Any:
    """The Arrow table of a part: a row for each vector.

    >>> made = table(["d1"], [SparseVector([3], [0.5])], Vocabulary([], []), "indices", {"spladerunner.model": "m"})
    >>> [(name, vector.values.tolist()) for name, vector in rows(made)]
    [('d1', [0.5])]
    """
    pa = pyarrow()
    schema = pa.schema([pa.field("id", pa.string(), nullable=False), *fields(format)], metadata=dict(metadata))
    arrays = [pa.array(ids, pa.string()), *columns(format, vectors, vocabulary).values()]
    cast = [array.cast(field.type) for array, field in zip(arrays, schema, strict=True)]
    return pa.Table.from_arrays(cast, schema=schema)


def rows(found: Any, vocabulary: Vocabulary | None = None) -> Iterator[tuple[str, SparseVector]]:
    """Reads the rows of an Arrow table or batch: the id and the vector of each.

    vocabulary: needed for maps of token to weight. Raises InputError if the columns are others.
    """
    names = set(found.schema.names)
    if {"id", "indices", "values"} <= names:
        for batch in _batches(found):
            indices, values = batch.column("indices"), batch.column("values")
            starts = np.asarray(indices.offsets)
            all_indices, all_values = np.asarray(indices.values), np.asarray(values.values)
            shift = np.asarray(values.offsets) - starts
            for row, name in enumerate(batch.column("id").to_pylist()):
                start, end = starts[row], starts[row + 1]
                weights = all_values[start + shift[row] : end + shift[row]]
                yield str(name), SparseVector(all_indices[start:end], weights)
    elif {"id", "vector"} <= names and vocabulary is not None:
        for batch in _batches(found):
            for name, pairs in zip(batch.column("id").to_pylist(), batch.column("vector").to_pylist(), strict=True):
                yield str(name), vocabulary.vector(dict(pairs))
    elif {"id", "vector"} <= names:
        raise InputError("The vectors are maps of token to weight: give the vocabulary of their model to read them.")
    else:
        raise InputError(f"The columns {found.schema.names} are not those of vectors: id, indices, values.")


def pyarrow() -> Any:
    """The module pyarrow, imported when it is used. Raises MissingExtraError."""
    with requires_extra("parquet", "Parquet"):
        import pyarrow as pa
    return pa


def _batches(found: Any) -> Iterator[Any]:
    yield from found.to_batches() if hasattr(found, "to_batches") else [found]


def _joined(arrays: Sequence[Any], kind: type) -> Any:
    return np.concatenate([np.empty(0, kind), *arrays])
