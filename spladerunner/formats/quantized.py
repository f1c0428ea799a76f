"""Formats with integer impacts instead of weights: Anserini, Pyserini, PISA and other readers of CIFF.

An impact is round(weight × scale). Impacts do not contain the scale, so Impacts records it. A score over impacts is the
score over weights times both scales. Rounding changes a weight by at most 0.5 / scale, and drops weights below that.
Anserini's regressions scale SPLADE weights by 100, the default here. PISA's quantized indexes have 8 bits, for which
`impact_scale` computes the scale.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from spladerunner.formats.plain import heaviest
from spladerunner.vector import SparseVector
from spladerunner.vocabulary import Vocabulary

SCALE = 100.0
MOST_QUERY_TOKENS = 1024
"""Lucene's default limit of clauses in a Boolean query (IndexSearcher.getMaxClauseCount)."""
LONGEST_TERM = 255
"""Lucene's WhitespaceTokenizer splits longer terms (StandardAnalyzer.DEFAULT_MAX_TOKEN_LENGTH)."""

NO_TERM = "%"
"""A term that no document has, as "%" is always encoded: Anserini rejects topics if one of them has no term."""


@dataclass(frozen=True, eq=False, slots=True)
class Impacts:
    """Integer weights.

    indices: (n,) int32, ascending positions in the vocabulary.
    impacts: (n,) int32, each at least 1.
    scale: factor of the weights.

    >>> impacts(SparseVector([3, 7], [0.5, 2.0])).scale
    100.0
    """

    indices: NDArray[np.int32]
    impacts: NDArray[np.int32]
    scale: float


def impacts(vector: SparseVector, scale: float = SCALE) -> Impacts:
    """round(weight × scale), half to even, without zeros.

    Raises ValueError if the scale is not positive, a weight is negative, or an impact exceeds int32.

    >>> impacts(SparseVector([3, 7], [0.5, 2.0])).impacts.tolist()
    [50, 200]
    """
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"scale={scale} must be a positive number")
    rounded = np.rint(vector.values.astype(np.float64) * scale)
    if rounded.size and (rounded.min() < 0 or rounded.max() > np.iinfo(np.int32).max):
        raise ValueError(
            f"weights of {vector.values.min()} to {vector.values.max()} times scale={scale} do not fit into impacts "
            f"of 0 to {np.iinfo(np.int32).max}"
        )
    kept = rounded > 0
    return Impacts(vector.indices[kept], rounded[kept].astype(np.int32), scale)


def from_impacts(quantized: Impacts) -> SparseVector:
    """The inverse of impacts, except for rounding: impact / scale.

    >>> from_impacts(impacts(SparseVector([3, 7], [0.5, 2.0]))).values.tolist()
    [0.5, 2.0]
    """
    return SparseVector(quantized.indices, quantized.impacts / quantized.scale)


def impact_scale(vectors: Iterable[SparseVector], bits: int = 8) -> float:
    """The scale that maps the heaviest weight of a collection to the largest impact of `bits` bits.

    Raises ValueError if no vector has a positive weight.

    >>> impact_scale([SparseVector([3, 7], [0.5, 2.0])])
    127.5
    """
    largest = max((float(vector.values.max()) for vector in vectors if len(vector)), default=0.0)
    if largest <= 0:
        raise ValueError("a scale needs at least one positive weight")
    return float((2**bits - 1) / largest)


def anserini(document_id: str, vector: SparseVector, vocabulary: Vocabulary, scale: float = SCALE) -> dict[str, Any]:
    """A document of Anserini's and Pyserini's JsonVectorCollection: {"id", "contents", "vector": {token: impact}}.

    Index it with `-generator DefaultLuceneDocumentGenerator -impact -pretokenized`. Anserini repeats each token by its
    impact and splits at white space, so white space and "%" in tokens are percent-encoded.
    Raises ValueError for a token that Lucene would split, and as impacts does.

    >>> anserini("1", SparseVector([2], [2.0]), Vocabulary(["[CLS]", "river", "bank"], [0]))
    {'id': '1', 'contents': '', 'vector': {'bank': 200}}
    """
    quantized = impacts(vector, scale)
    weights = {
        _term(vocabulary.tokens[index]): impact
        for index, impact in zip(quantized.indices.tolist(), quantized.impacts.tolist(), strict=True)
    }
    return {"id": document_id, "contents": "", "vector": weights}


def from_anserini(
    document: Mapping[str, Any], vocabulary: Vocabulary, scale: float = SCALE
) -> tuple[str, SparseVector]:
    """The inverse of anserini, except for rounding: the document's id and its vector.

    >>> name, vector = from_anserini(
    ...     {"id": "1", "vector": {"bank": 200}}, Vocabulary(["[CLS]", "river", "bank"], [0])
    ... )
    >>> name, vector.values.tolist()
    ('1', [2.0])
    """
    weights = {unquote(term): impact / scale for term, impact in document["vector"].items()}
    return document["id"], vocabulary.vector(weights)


def anserini_topic(query_id: str, vector: SparseVector, vocabulary: Vocabulary, scale: float = SCALE) -> str:
    r"""A query of Anserini's and Pyserini's TSV topics: id, tab, and each token repeated by its impact.

    Search with `-topicReader TsvString -impact -pretokenized`. Of more than 1,024 tokens, Lucene's limit, the heaviest
    are kept, with a warning; a query without tokens gets one term that no document has.
    Raises ValueError for white space in the id, and as anserini does.

    >>> anserini_topic("1", SparseVector([2], [0.03]), Vocabulary(["[CLS]", "river", "bank"], [0]))
    '1\tbank bank bank'
    """
    if not query_id or re.search(r"\s", query_id):
        raise ValueError(f"the topic id {query_id!r} is empty or has white space, which ends an id in TSV topics")
    kept = heaviest(vector, MOST_QUERY_TOKENS, "a Lucene query")
    weights = anserini(query_id, kept, vocabulary, scale)["vector"]
    terms = " ".join(term for term, impact in weights.items() for _ in range(impact))
    return f"{query_id}\t{terms or NO_TERM}"


def from_anserini_topic(line: str, vocabulary: Vocabulary, scale: float = SCALE) -> tuple[str, SparseVector]:
    r"""The inverse of anserini_topic, except for rounding: the query's id and its vector.

    >>> name, vector = from_anserini_topic("1\tbank bank", Vocabulary(["[CLS]", "river", "bank"], [0]))
    >>> name, round(vector.values.item(), 2)
    ('1', 0.02)
    """
    query_id, _, terms = line.partition("\t")
    counts: dict[str, int] = {}
    for term in terms.split():
        counts[term] = counts.get(term, 0) + 1
    counts.pop(NO_TERM, None)
    return from_anserini({"id": query_id, "vector": counts}, vocabulary, scale)


def percent_encoded(token: str, reserved: str) -> str:
    """The token with "%" and the reserved characters as %XX; urllib.parse.unquote is the inverse.

    reserved: content of a character class of a regular expression. As "%" is always encoded, tokens stay distinct.
    """
    return re.sub(rf"[%{reserved}]", lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), token)


def _term(token: str) -> str:
    term = percent_encoded(token, r"\s")
    if len(term) > LONGEST_TERM:
        raise ValueError(f"Lucene splits terms after {LONGEST_TERM} characters, and a token has {len(term)}: {term!r}")
    return term
