"""CIFF, the Common Index File Format: one file with the inverted index of a collection, for PISA and others.

Source: Lin et al., "Supporting Interoperability Between Open-Source Search Engines with the Common Index File Format",
SIGIR 2020; CommonIndexFileFormat.proto of https://github.com/osirrc/ciff.

A file is a header, a postings list for each term and a record for each document, each preceded by its length in
bytes. Document numbers in a postings list are gaps. The format's tf is the impact here, a document's length is the sum
of its impacts, and the header's description holds the scale.

The messages are built from a table, without protobuf's compiler, whose output fits one generation of the library only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from os import PathLike
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np

from spladerunner.errors import requires_extra
from spladerunner.formats.quantized import SCALE, impacts
from spladerunner.vector import SparseVector
from spladerunner.vocabulary import Vocabulary

VERSION = 1

_INT32, _INT64, _DOUBLE, _STRING = "TYPE_INT32", "TYPE_INT64", "TYPE_DOUBLE", "TYPE_STRING"
_MESSAGES: dict[str, dict[str, str]] = {  # name -> {field: type}, fields numbered from 1
    "Header": {
        "version": _INT32,
        "num_postings_lists": _INT32,
        "num_doc_records": _INT32,
        "total_postings_lists": _INT32,
        "total_docs": _INT32,
        "total_terms_in_collection": _INT64,
        "average_doclength": _DOUBLE,
        "description": _STRING,
    },
    "Posting": {"docid": _INT32, "tf": _INT32},
    "PostingsList": {"term": _STRING, "df": _INT64, "cf": _INT64, "postings": "Posting"},
    "DocRecord": {"docid": _INT32, "collection_docid": _STRING, "doclength": _INT32},
}


def write_ciff(
    path: str | PathLike[str],
    documents: Iterable[tuple[str, SparseVector]],
    vocabulary: Vocabulary,
    scale: float = SCALE,
) -> None:
    """Writes (id, vector) pairs as one CIFF file, atomically, with terms sorted by their UTF-8 bytes, as in Lucene.

    All postings are held in memory, to sort them by term. Raises ValueError for a repeated id, and as impacts does;
    MissingExtraError if protobuf is not installed.

    >>> from tempfile import TemporaryDirectory
    >>> vocabulary = Vocabulary(["[CLS]", "river", "bank"], [0])
    >>> with TemporaryDirectory() as folder:
    ...     write_ciff(f"{folder}/index.ciff", [("1", SparseVector([2], [2.0]))], vocabulary)
    ...     read_ciff(f"{folder}/index.ciff", vocabulary)[0][1].values.tolist()
    [2.0]
    """
    ciff = _protobuf()
    ids: list[str] = []
    lengths: list[int] = []
    columns: list[Any] = []
    for name, vector in documents:
        quantized = impacts(vector, scale)
        columns.append((quantized.indices, np.full(len(quantized.indices), len(ids), np.int32), quantized.impacts))
        lengths.append(int(quantized.impacts.sum()))
        ids.append(name)
    if len(set(ids)) < len(ids):
        repeated, times = Counter(ids).most_common(1)[0]
        raise ValueError(f"the document id {repeated!r} occurs {times} times")
    empty = np.empty(0, np.int32)
    tokens, numbers, weights = map(np.concatenate, zip((empty, empty, empty), *columns, strict=True))
    order = np.argsort(tokens, kind="stable")
    tokens, numbers, weights = tokens[order], numbers[order], weights[order]
    present, starts, counts = np.unique(tokens, return_index=True, return_counts=True)
    postings = {
        vocabulary.tokens[token]: slice(start, start + count)
        for token, start, count in zip(present.tolist(), starts.tolist(), counts.tolist(), strict=True)
    }
    with _atomic_file(Path(path)) as file:
        ciff.write(
            ciff.Header(
                version=VERSION,
                num_postings_lists=len(postings),
                num_doc_records=len(ids),
                total_postings_lists=len(postings),
                total_docs=len(ids),
                total_terms_in_collection=sum(lengths),
                average_doclength=sum(lengths) / len(ids) if ids else 0.0,
                description=f"spladerunner: tf is round(weight × scale), scale={float(scale)!r}",
            ),
            file,
        )
        for term in sorted(postings, key=str.encode):
            documents_of, tf = numbers[postings[term]], weights[postings[term]]
            gaps = np.diff(documents_of, prepend=0)
            listed = ciff.PostingsList(term=term, df=len(tf), cf=int(tf.sum()))
            pairs = zip(gaps.tolist(), tf.tolist(), strict=True)
            listed.postings.extend(ciff.Posting(docid=gap, tf=impact) for gap, impact in pairs)
            ciff.write(listed, file)
        for number, (name, length) in enumerate(zip(ids, lengths, strict=True)):
            ciff.write(ciff.DocRecord(docid=number, collection_docid=name, doclength=length), file)


def read_ciff(
    path: str | PathLike[str], vocabulary: Vocabulary, scale: float | None = None
) -> list[tuple[str, SparseVector]]:
    """The inverse of write_ciff, except for rounding: (id, vector) pairs in the order of their records.

    scale: factor of the weights, by default the one that write_ciff recorded in the header.
    Raises ValueError if the file is not a CIFF file or is incomplete, a term is not a token, or no scale is known;
    MissingExtraError if protobuf is not installed.

    >>> from tempfile import TemporaryDirectory
    >>> vocabulary = Vocabulary(["[CLS]", "river", "bank"], [0])
    >>> with TemporaryDirectory() as folder:
    ...     write_ciff(f"{folder}/index.ciff", [("1", SparseVector([2], [2.0]))], vocabulary)
    ...     [name for name, vector in read_ciff(f"{folder}/index.ciff", vocabulary)]
    ['1']
    """
    ciff = _protobuf()
    with Path(path).open("rb") as file:

        def next_message(kind: Any) -> Any:
            try:
                message = ciff.read(kind, file)
            except (ciff.DecodeError, ValueError) as error:
                raise ValueError(f"{path} is not a CIFF file, or is damaged: {error}") from error
            if message is None:
                raise ValueError(
                    f"{path} is incomplete: it ends before a {kind.DESCRIPTOR.name} that its header counts"
                )
            return message

        header = next_message(ciff.Header)
        if header.version != VERSION:
            raise ValueError(f"{path} is not a CIFF file of version {VERSION}: its header says {header.version}")
        if scale is None:
            noted = re.search(r"scale=(\S+)$", header.description)
            if noted is None:
                raise ValueError(f"{path} does not record the scale of its weights: pass scale")
            scale = float(noted[1])
        postings = [(empty := np.empty(0, np.int64), empty, empty)]
        for _ in range(header.num_postings_lists):
            listed = next_message(ciff.PostingsList)
            gaps, tf = ([getattr(posting, name) for posting in listed.postings] for name in ("docid", "tf"))
            postings.append(
                (
                    np.cumsum(gaps, dtype=np.int64),
                    np.full(len(tf), vocabulary.position(listed.term)),
                    np.array(tf, np.int64),
                )
            )
        records = [next_message(ciff.DocRecord) for _ in range(header.num_doc_records)]
    numbers, tokens, impacts_of = map(np.concatenate, zip(*postings, strict=True))
    order = np.lexsort((tokens, numbers))
    numbers, tokens, weights = numbers[order], tokens[order], impacts_of[order] / scale
    ranges = np.searchsorted(numbers, [[record.docid, record.docid + 1] for record in records]) if records else ()
    return [
        (record.collection_docid, SparseVector(tokens[start:end], weights[start:end]))
        for record, (start, end) in zip(records, ranges, strict=True)
    ]


@contextmanager
def _atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when it is complete."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@cache
def _protobuf() -> SimpleNamespace:
    """CIFF's messages as classes, with functions that write and read a message preceded by its length."""
    with requires_extra("formats", "CIFF"):
        from google.protobuf import descriptor_pb2, message, message_factory, proto
    package = "io.osirrc.ciff"
    file = descriptor_pb2.FileDescriptorProto(name="CommonIndexFileFormat.proto", package=package, syntax="proto3")
    for name, fields in _MESSAGES.items():
        described = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            if kind in _MESSAGES:
                described.field.add(
                    name=field,
                    number=number,
                    type="TYPE_MESSAGE",
                    label="LABEL_REPEATED",
                    type_name=f".{package}.{kind}",
                )
            else:
                described.field.add(name=field, number=number, type=kind, label="LABEL_OPTIONAL")
    classes = message_factory.GetMessages([file])
    return SimpleNamespace(
        write=proto.serialize_length_prefixed,
        read=proto.parse_length_prefixed,
        DecodeError=message.DecodeError,
        **{name.removeprefix(f"{package}."): kind for name, kind in classes.items()},
    )
