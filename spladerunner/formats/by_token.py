"""Formats of engines that store weights by token: Elasticsearch, OpenSearch, Vespa, Seismic."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import numpy as np

from spladerunner.formats.plain import from_tokens, heaviest, positive, tokens
from spladerunner.formats.quantized import MOST_QUERY_TOKENS, percent_encoded
from spladerunner.vector import SparseVector
from spladerunner.vocabulary import Vocabulary

LEAST_FEATURE = float(np.finfo(np.float32).tiny)
"""The smallest value of a Lucene FeatureField: the smallest positive normal float32, 1.18e-38."""
LONGEST_SEISMIC_TOKEN = 100
"""Characters of a token in Seismic's NumPy arrays (seismic.get_seismic_string() of 0.5)."""


def elasticsearch(vector: SparseVector, vocabulary: Vocabulary) -> dict[str, float]:
    """The value of a `sparse_vector` or `rank_features` field: {feature: weight}, heaviest first.

    A feature is the token with "." and "%" percent-encoded ("U.S" is "U%2ES"). sparse_vector once rejected dots
    (elastic/elasticsearch#109118, lifted in #111981), and a rank_feature query takes the part of its field after the
    last dot as the feature (RankFeatureQueryBuilder.doToQuery).
    Both fields are Lucene FeatureFields: values must be positive, normal floats, and keep 9 significant bits (an error
    of at most 2^-8). Smaller weights are dropped, with a warning that says how many.
    Raises ValueError for a negative weight.

    >>> elasticsearch(SparseVector([1, 2], [0.5, 2.0]), Vocabulary(["[CLS]", "U.S", "bank"], [0]))
    {'bank': 2.0, 'U%2ES': 0.5}
    """
    return _features(vector, vocabulary, "Elasticsearch")


def opensearch(vector: SparseVector, vocabulary: Vocabulary) -> dict[str, float]:
    """The value of a `rank_features` field: {feature: weight}, heaviest first, with the limits of elasticsearch.

    >>> opensearch(SparseVector([1, 2], [0.5, 2.0]), Vocabulary(["[CLS]", "river", "bank"], [0]))
    {'bank': 2.0, 'river': 0.5}
    """
    return _features(vector, vocabulary, "OpenSearch")


def from_features(features: Mapping[str, float], vocabulary: Vocabulary) -> SparseVector:
    """The inverse of elasticsearch and opensearch. Raises ValueError if a feature is not a token.

    >>> from_features({"bank": 2.0, "U%2ES": 0.5}, Vocabulary(["[CLS]", "U.S", "bank"], [0])).indices.tolist()
    [1, 2]
    """
    return vocabulary.vector({unquote(feature): weight for feature, weight in features.items()})


def elasticsearch_query(vector: SparseVector, vocabulary: Vocabulary, field: str) -> dict[str, Any]:
    """A query of a sparse_vector field: the dot product, without Elasticsearch's default pruning.

    Of more than 1,024 tokens, Lucene's default limit of clauses, the heaviest are kept, with a warning. An empty vector
    finds nothing.

    >>> elasticsearch_query(SparseVector([2], [2.0]), Vocabulary(["[CLS]", "river", "bank"], [0]), "splade")
    {'sparse_vector': {'field': 'splade', 'query_vector': {'bank': 2.0}, 'prune': False}}
    """
    weights = elasticsearch(heaviest(vector, MOST_QUERY_TOKENS, "a Lucene query"), vocabulary)
    return {"sparse_vector": {"field": field, "query_vector": weights, "prune": False}} if weights else _nothing()


def rank_features_query(vector: SparseVector, vocabulary: Vocabulary, field: str) -> dict[str, Any]:
    """A query of a rank_features field in Elasticsearch or OpenSearch: the dot product, a linear clause a feature.

    It has the limit of elasticsearch_query.

    >>> rank_features_query(SparseVector([2], [2.0]), Vocabulary(["[CLS]", "river", "bank"], [0]), "splade")
    {'bool': {'should': [{'rank_feature': {'field': 'splade.bank', 'linear': {}, 'boost': 2.0}}]}}
    """
    weights = elasticsearch(heaviest(vector, MOST_QUERY_TOKENS, "a Lucene query"), vocabulary)
    clauses = [
        {"rank_feature": {"field": f"{field}.{feature}", "linear": {}, "boost": weight}}
        for feature, weight in weights.items()
    ]
    return {"bool": {"should": clauses}} if clauses else _nothing()


def opensearch_query(vector: SparseVector, vocabulary: Vocabulary, field: str) -> dict[str, Any]:
    """A neural_sparse query of a rank_features field by tokens: the dot product. It has elasticsearch_query's limit.

    >>> opensearch_query(SparseVector([2], [2.0]), Vocabulary(["[CLS]", "river", "bank"], [0]), "splade")
    {'neural_sparse': {'splade': {'query_tokens': {'bank': 2.0}}}}
    """
    weights = opensearch(heaviest(vector, MOST_QUERY_TOKENS, "a Lucene query"), vocabulary)
    return {"neural_sparse": {field: {"query_tokens": weights}}} if weights else _nothing()


def vespa(vector: SparseVector, vocabulary: Vocabulary) -> dict[str, dict[str, float]]:
    """The value of a `tensor<float>(token{})` field or query input: {"cells": {token: weight}}.

    Vespa also accepts {token: weight}, but would interpret keys such as "cells" and "blocks", which may be tokens.

    >>> vespa(SparseVector([1, 2], [0.5, 2.0]), Vocabulary(["[CLS]", "river", "bank"], [0]))
    {'cells': {'bank': 2.0, 'river': 0.5}}
    """
    return {"cells": tokens(vector, vocabulary)}


def from_vespa(tensor: Mapping[str, Mapping[str, float]], vocabulary: Vocabulary) -> SparseVector:
    """The inverse of vespa. Raises ValueError if a cell is not a token.

    >>> from_vespa({"cells": {"bank": 2.0}}, Vocabulary(["[CLS]", "river", "bank"], [0])).indices.tolist()
    [2]
    """
    return from_tokens(tensor["cells"], vocabulary)


def seismic(vector: SparseVector, vocabulary: Vocabulary) -> dict[str, float]:
    """{token: weight}, heaviest first, for Seismic's JSON and its queries.

    Raises ValueError for a negative weight, or a token of more than 100 characters, which Seismic would cut.

    >>> seismic(SparseVector([1, 2], [0.5, 2.0]), Vocabulary(["[CLS]", "river", "bank"], [0]))
    {'bank': 2.0, 'river': 0.5}
    """
    weights = tokens(positive(vector, "Seismic"), vocabulary)
    for token in weights:
        if len(token) > LONGEST_SEISMIC_TOKEN:
            raise ValueError(f"Seismic cuts tokens after {LONGEST_SEISMIC_TOKEN} characters: {token!r}")
    return weights


def _features(vector: SparseVector, vocabulary: Vocabulary, engine: str) -> dict[str, float]:
    stored = positive(vector, engine)
    normal = stored.prune(LEAST_FEATURE)
    if len(normal) < len(stored):
        warnings.warn(
            f"{engine} accepts no weight below {LEAST_FEATURE:.3g}: {len(stored) - len(normal)} of {len(stored)} are "
            "dropped",
            stacklevel=3,
        )
    return {percent_encoded(token, "."): weight for token, weight in tokens(normal, vocabulary).items()}


def _nothing() -> dict[str, Any]:
    """The query of an empty vector: a Boolean query without clauses would match everything."""
    return {"match_none": {}}
