"""Formats of a document or query as a line of a file, for the bulk loader of each engine.

>>> FORMATS["indices"]("1", SparseVector([1], [0.5]), Vocabulary(["[CLS]", "river"], [0]))
'{"id": "1", "indices": [1], "values": [0.5]}'
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from spladerunner.formats import by_index, by_token, plain, quantized
from spladerunner.vector import SparseVector
from spladerunner.vocabulary import Vocabulary

LineFormatter = Callable[[str, SparseVector, Vocabulary], str]
"""Turns (id, vector, vocabulary) into a line, without its newline."""

PayloadFormatter = Callable[[str, SparseVector, Vocabulary, Mapping[str, Any]], str]
"""A LineFormatter with one more argument: other fields of the document, which the line holds beside its vector."""

DEFAULT = "json"
"""The format of bulk encoding unless another is given."""


NOTHING: Mapping[str, Any] = MappingProxyType({})


def _with(record: dict[str, Any], payload: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the fields of the payload. Raises ValueError if it has one of them itself."""
    for name in payload:
        if name in record:
            raise ValueError(f"it has a field {name!r} of its own")
    return {**record, **payload}


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)


def _action(name: str, document: dict[str, Any], payload: Mapping[str, Any]) -> str:
    """An action of helpers.bulk, which takes some names beside _id for metadata unless the document is apart."""
    return _json({"_id": name, "_source": _with(document, payload)} if payload else {"_id": name, **document})


def tokens_line(name: str, vector: SparseVector, vocabulary: Vocabulary, payload: Mapping[str, Any] = NOTHING) -> str:
    """{"id", "vector": {token: weight}}, heaviest first."""
    return _json(_with({"id": name, "vector": plain.tokens(vector, vocabulary)}, payload))


def indices_line(name: str, vector: SparseVector, _: Vocabulary, payload: Mapping[str, Any] = NOTHING) -> str:
    """{"id", "indices", "values"}."""
    return _json(_with({"id": name, **plain.indices(vector)}, payload))


def anserini_line(name: str, vector: SparseVector, vocabulary: Vocabulary) -> str:
    """A document of JsonVectorCollection, with impacts of weight × 100."""
    return _json(quantized.anserini(name, vector, vocabulary))


def anserini_topics_line(name: str, vector: SparseVector, vocabulary: Vocabulary) -> str:
    """A query of TSV topics, with impacts of weight × 100."""
    return quantized.anserini_topic(name, vector, vocabulary)


def elasticsearch_line(
    name: str, vector: SparseVector, vocabulary: Vocabulary, payload: Mapping[str, Any] = NOTHING
) -> str:
    """{"_id", "vector": {feature: weight}}, an action for elasticsearch.helpers.bulk."""
    return _action(name, {"vector": by_token.elasticsearch(vector, vocabulary)}, payload)


def opensearch_line(
    name: str, vector: SparseVector, vocabulary: Vocabulary, payload: Mapping[str, Any] = NOTHING
) -> str:
    """{"_id", "vector": {feature: weight}}, an action for opensearchpy.helpers.bulk."""
    return _action(name, {"vector": by_token.opensearch(vector, vocabulary)}, payload)


def qdrant_line(name: str, vector: SparseVector, _: Vocabulary, payload: Mapping[str, Any] = NOTHING) -> str:
    """A point with the named vector "splade", for models.PointStruct(**json.loads(line)). Its payload holds the id."""
    point_id = by_index.qdrant_id(name)
    return _json(
        {"id": point_id, "vector": {"splade": by_index.qdrant(vector)}, "payload": _with({"id": name}, payload)}
    )


def milvus_line(name: str, vector: SparseVector, _: Vocabulary, payload: Mapping[str, Any] = NOTHING) -> str:
    """A row with the fields id and vector, for MilvusClient.insert and Milvus' bulk import."""
    return _json(_with({"id": name, "vector": by_index.milvus(vector)}, payload))


def pgvector_line(name: str, vector: SparseVector, vocabulary: Vocabulary) -> str:
    r"""A row of COPY in text format: id, tab, sparsevec."""
    escaped = name.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return f"{escaped}\t{by_index.pgvector(vector, len(vocabulary))}"


def vespa_line(name: str, vector: SparseVector, vocabulary: Vocabulary, payload: Mapping[str, Any] = NOTHING) -> str:
    """A put of a document of type "doc" in the namespace "splade", with the fields id and vector, for `vespa feed`."""
    fields = _with({"id": name, "vector": by_token.vespa(vector, vocabulary)}, payload)
    return _json({"put": f"id:splade:doc::{name}", "fields": fields})


def seismic_line(name: str, vector: SparseVector, vocabulary: Vocabulary) -> str:
    """{"id", "vector": {token: weight}}, a document in the file of SeismicIndex.build."""
    return _json({"id": name, "vector": by_token.seismic(vector, vocabulary)})


FORMATS: dict[str, LineFormatter] = {
    DEFAULT: tokens_line,
    "indices": indices_line,
    "anserini": anserini_line,
    "anserini-topics": anserini_topics_line,
    "elasticsearch": elasticsearch_line,
    "elasticsearch-rank-features": elasticsearch_line,
    "opensearch": opensearch_line,
    "qdrant": qdrant_line,
    "milvus": milvus_line,
    "pgvector": pgvector_line,
    "vespa": vespa_line,
    "seismic": seismic_line,
}
"""Line formatters by the name of their format."""

WITH_PAYLOAD: dict[str, PayloadFormatter] = {
    DEFAULT: tokens_line,
    "indices": indices_line,
    "elasticsearch": elasticsearch_line,
    "elasticsearch-rank-features": elasticsearch_line,
    "opensearch": opensearch_line,
    "qdrant": qdrant_line,
    "milvus": milvus_line,
    "vespa": vespa_line,
}
"""The formatters of FORMATS whose lines have a place for other fields of a document."""
