"""Weights as integers, for engines that count: Anserini, Pyserini, PISA and whatever reads CIFF.

An impact is round(weight × scale). The scale is kept beside the impacts, since nothing in them tells it; a score over
impacts is a score over weights times both scales. No weight moves by more than 0.5 / scale, and one below that is lost.
Anserini's regressions scale SPLADE weights by 100, the default here; PISA's quantized indexes have 8 bits, for which
`impact_scale` finds the scale.
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
"""Lucene refuses a Boolean query of more clauses, unless told otherwise (IndexSearcher.getMaxClauseCount)."""
LONGEST_TERM = 255
"""Lucene's WhitespaceTokenizer cuts a longer term in two (StandardAnalyzer.DEFAULT_MAX_TOKEN_LENGTH)."""

NO_TERM = "%"
"""A term that no document has, since "%" is always encoded: Anserini refuses topics of which one has no term."""


@dataclass(frozen=True, eq=False, slots=True)
class Impacts:
    """Integer weights.

    indices: (n,) int32, ascending positions in the vocabulary.
    impacts: (n,) int32, each at least 1.
    scale: what the weights were multiplied by.
    """

    indices: NDArray[np.int32]
    impacts: NDArray[np.int32]
    scale: float


def impacts(vector: SparseVector, scale: float = SCALE) -> Impacts:
    """round(weight × scale), halves to even; what rounds to 0 is left out.

    Raises ValueError where the scale is not positive, a weight is negative, or an impact exceeds int32.
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
    """The inverse of impacts, but for the rounding: impact / scale."""
    return SparseVector(quantized.indices, quantized.impacts / quantized.scale)


def impact_scale(vectors: Iterable[SparseVector], bits: int = 8) -> float:
    """The scale that gives the heaviest weight of a collection the largest impact of so many bits.

    Raises ValueError where no vector has a positive weight.
    """
    largest = max((float(vector.values.max()) for vector in vectors if len(vector)), default=0.0)
    if largest <= 0:
        raise ValueError("a scale needs at least one positive weight")
    return float((2**bits - 1) / largest)


def anserini(document_id: str, vector: SparseVector, vocabulary: Vocabulary, scale: float = SCALE) -> dict[str, Any]:
    """A document of Anserini's and Pyserini's JsonVectorCollection: {"id", "contents", "vector": {token: impact}}.

    Index it with `-generator DefaultLuceneDocumentGenerator -impact -pretokenized`. Anserini repeats each token as
    often as its impact says, and splits at white space: what a token has of that is percent-encoded, as is "%" itself.
    Raises ValueError at a token that Lucene would cut, and as impacts does.
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
    """The inverse of anserini, but for the rounding: the document's id and its vector."""
    weights = {unquote(term): impact / scale for term, impact in document["vector"].items()}
    return document["id"], vocabulary.vector(weights)


def anserini_topic(query_id: str, vector: SparseVector, vocabulary: Vocabulary, scale: float = SCALE) -> str:
    """A query of Anserini's and Pyserini's TSV topics: id, tab, and each token as often as its impact says.

    Search with `-topicReader TsvString -impact -pretokenized`. Beyond 1,024 tokens, which is as many as Lucene takes,
    the heaviest are kept, with a warning; a query without a token gets one term that no document has.
    Raises ValueError at white space in the id, and as anserini does.
    """
    if not query_id or re.search(r"\s", query_id):
        raise ValueError(f"the topic id {query_id!r} is empty or has white space in it, which ends an id in TSV topics")
    kept = heaviest(vector, MOST_QUERY_TOKENS, "a Lucene query")
    weights = anserini(query_id, kept, vocabulary, scale)["vector"]
    terms = " ".join(term for term, impact in weights.items() for _ in range(impact))
    return f"{query_id}\t{terms or NO_TERM}"


def from_anserini_topic(line: str, vocabulary: Vocabulary, scale: float = SCALE) -> tuple[str, SparseVector]:
    """The inverse of anserini_topic, but for the rounding."""
    query_id, _, terms = line.partition("\t")
    counts: dict[str, int] = {}
    for term in terms.split():
        counts[term] = counts.get(term, 0) + 1
    counts.pop(NO_TERM, None)
    return from_anserini({"id": query_id, "vector": counts}, vocabulary, scale)


def percent_encoded(token: str, reserved: str) -> str:
    """The token with "%" and what the class of characters holds as %XX; urllib.parse.unquote undoes it.

    No two tokens get one spelling, since "%" itself never stays.
    """
    return re.sub(rf"[%{reserved}]", lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), token)


def _term(token: str) -> str:
    term = percent_encoded(token, r"\s")
    if len(term) > LONGEST_TERM:
        raise ValueError(f"Lucene cuts terms after {LONGEST_TERM} characters, and a token has {len(term)}: {term!r}")
    return term
