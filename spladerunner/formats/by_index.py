"""Formats of engines that store weights by the index of the token: Qdrant, Milvus, pgvector."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping

from spladerunner.formats.plain import IndicesAndValues, decimals, heaviest, indices, positive
from spladerunner.vector import SparseVector

NOWHERE, NOWHERE_ELSE = 2**32 - 2, 2**32 - 3
"""The largest indices that Milvus accepts (pymilvus: "must be positive and less than 2^32-1"); no token has them."""
MOST_STORED = 16_000
MOST_IN_HNSW = 1_000
"""pgvector 0.8: "sparsevec cannot have more than 16000 non-zero elements", and 1,000 "for hnsw index"."""
MOST_DIMENSIONS = 1_000_000_000

_SPARSEVEC = re.compile(r"\{(.*)\}/(\d+)")


def qdrant(vector: SparseVector) -> IndicesAndValues:
    """The arguments of `models.SparseVector` and of Qdrant's REST API: {"indices": [...], "values": [...]}.

    An empty vector is stored, and no query finds it.

    >>> qdrant(SparseVector([3, 7], [0.5, 2.0]))
    {'indices': [3, 7], 'values': [0.5, 2.0]}
    """
    return indices(vector)


def qdrant_id(document_id: str) -> str:
    """A UUID made from a document's id: Qdrant accepts only UUIDs and unsigned integers.

    >>> qdrant_id("doc-1") == qdrant_id("doc-1") != qdrant_id("doc-2")
    True
    """
    return str(uuid.uuid5(uuid.NAMESPACE_OID, document_id))


def milvus(vector: SparseVector) -> dict[int, float]:
    """The value of a SPARSE_FLOAT_VECTOR field: {index: weight}.

    Milvus before 2.4.12 and Milvus Lite reject an empty row (milvus-io/milvus#32972), so an empty vector gets one
    weight at an index that no token has: it is stored, and no query finds it. Raises ValueError for a negative weight,
    which Milvus rejects.

    >>> milvus(SparseVector([3, 7], [0.5, 2.0]))
    {3: 0.5, 7: 2.0}
    """
    return _row(vector, NOWHERE)


def milvus_query(vector: SparseVector) -> dict[int, float]:
    """The query of `MilvusClient.search`: like milvus, except that an empty query does not find empty documents.

    >>> milvus_query(SparseVector([], [])) == milvus(SparseVector([], []))
    False
    """
    return _row(vector, NOWHERE_ELSE)


def from_milvus(row: Mapping[int, float] | Mapping[str, float]) -> SparseVector:
    """The inverse of milvus and milvus_query. Indices may be strings, as in JSON.

    >>> from_milvus({"3": 0.5, "7": 2.0}).indices.tolist()
    [3, 7]
    """
    weight_at = {int(index): weight for index, weight in row.items()}
    kept = sorted(weight_at.keys() - {NOWHERE, NOWHERE_ELSE})
    return SparseVector(kept, [weight_at[index] for index in kept])


def pgvector(vector: SparseVector, vocabulary_size: int, most: int = MOST_STORED) -> str:
    """The text of a `sparsevec`: "{index:weight,...}/vocabulary_size", with indices from 1.

    most: number of weights; the heaviest are kept, with a warning that says how many are dropped. pgvector stores up to
    16,000, and indexes up to 1,000 with HNSW (MOST_IN_HNSW).
    Raises ValueError if vocabulary_size is not in pgvector's range, or an index is not below it.

    >>> pgvector(SparseVector([3, 7], [0.5, 2.0]), 30522)
    '{4:0.5,8:2.0}/30522'
    """
    if not 0 < vocabulary_size <= MOST_DIMENSIONS:
        raise ValueError(f"a sparsevec has 1 to {MOST_DIMENSIONS} dimensions, not {vocabulary_size}")
    if len(vector) and vector.indices[-1] >= vocabulary_size:
        raise ValueError(f"index {vector.indices[-1]} is beyond the vocabulary's {vocabulary_size}")
    kept = heaviest(vector, most, "pgvector")
    weights = zip((kept.indices + 1).tolist(), decimals(kept.values), strict=True)
    return "{" + ",".join(f"{index}:{weight}" for index, weight in weights) + f"}}/{vocabulary_size}"


def from_pgvector(text: str) -> SparseVector:
    """The inverse of pgvector. Raises ValueError if the text is not a sparsevec.

    >>> from_pgvector("{4:0.5,8:2}/30522").indices.tolist()
    [3, 7]
    """
    match = _SPARSEVEC.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text[:80]!r} is not a sparsevec, such as {{1:0.5,7:2}}/30522")
    weights = [entry.split(":") for entry in match[1].split(",")] if match[1] else []
    return SparseVector([int(index) - 1 for index, _ in weights], [float(weight) for _, weight in weights])


def _row(vector: SparseVector, index_if_empty: int) -> dict[int, float]:
    stored = positive(vector, "Milvus")
    if not len(stored):
        return {index_if_empty: 1.0}
    return dict(zip(stored.indices.tolist(), decimals(stored.values), strict=True))
