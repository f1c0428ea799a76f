"""Formats of a document or query as a line of a file, for the bulk loader of each engine.

>>> FORMATS["indices"]("1", SparseVector([1], [0.5]), Vocabulary(["[CLS]", "river"], [0]))
'{"id": "1", "indices": [1], "values": [0.5]}'
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from spladerunner.formats import by_index, by_token, plain, quantized
from spladerunner.vector import SparseVector
from spladerunner.vocabulary import Vocabulary

LineFormatter = Callable[[str, SparseVector, Vocabulary], str]
"""Turns (id, vector, vocabulary) into a line, without its newline."""

DEFAULT = "json"
"""The format of bulk encoding unless another is given."""


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)


def tokens_line(name: str, vector: SparseVector, vocabulary: Vocabulary) -> str:
    """{"id", "vector": {token: weight}}, heaviest first."""
    return _json({"id": name, "vector": plain.tokens(vector, vocabulary)})


def indices_line(name: str, vector: SparseVector, _: Vocabulary) -> str:
    """{"id", "indices", "values"}."""
    return _json({"id": name, **plain.indices(vector)})


def anserini_line(name: str, vector: SparseVector, vocabulary: Vocabulary) -> str:
    """A document of JsonVectorCollection, with impacts of weight × 100."""
    return _json(quantized.anserini(name, vector, vocabulary))


def anserini_topics_line(name: str, vector: SparseVector, vocabulary: Vocabulary) -> str:
    """A query of TSV topics, with impacts of weight × 100."""
    return quantized.anserini_topic(name, vector, vocabulary)


def elasticsearch_line(name: str, vector: SparseVector, vocabulary: Vocabulary) -> str:
    """{"_id", "vector": {feature: weight}}, an action for elasticsearch.helpers.bulk."""
    return _json({"_id": name, "vector": by_token.elasticsearch(vector, vocabulary)})


def opensearch_line(name: str, vector: SparseVector, vocabulary: Vocabulary) -> str:
    """{"_id", "vector": {feature: weight}}, an action for opensearchpy.helpers.bulk."""
    return _json({"_id": name, "vector": by_token.opensearch(vector, vocabulary)})


def qdrant_line(name: str, vector: SparseVector, _: Vocabulary) -> str:
    """A point with the named vector "splade", for models.PointStruct(**json.loads(line)). Its payload holds the id."""
    point_id = by_index.qdrant_id(name)
    return _json({"id": point_id, "vector": {"splade": by_index.qdrant(vector)}, "payload": {"id": name}})


def milvus_line(name: str, vector: SparseVector, _: Vocabulary) -> str:
    """A row with the fields id and vector, for MilvusClient.insert and Milvus' bulk import."""
    return _json({"id": name, "vector": by_index.milvus(vector)})


def pgvector_line(name: str, vector: SparseVector, vocabulary: Vocabulary) -> str:
    r"""A row of COPY in text format: id, tab, sparsevec."""
    escaped = name.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return f"{escaped}\t{by_index.pgvector(vector, len(vocabulary))}"


def vespa_line(name: str, vector: SparseVector, vocabulary: Vocabulary) -> str:
    """A put of a document of type "doc" in the namespace "splade", with the fields id and vector, for `vespa feed`."""
    return _json(
        {"put": f"id:splade:doc::{name}", "fields": {"id": name, "vector": by_token.vespa(vector, vocabulary)}}
    )


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
