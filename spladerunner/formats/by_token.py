"""Engines that store weights under the token's name: Elasticsearch, OpenSearch, Vespa, Seismic."""

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
"""The least value of a Lucene FeatureField: the least positive normal float32, 1.18e-38."""
LONGEST_SEISMIC_TOKEN = 100
"""Seismic keeps tokens in NumPy arrays of this many characters (seismic.get_seismic_string() of 0.5)."""


def elasticsearch(vector: SparseVector, vocabulary: Vocabulary) -> dict[str, float]:
    """The value of a `sparse_vector` or `rank_features` field: {feature: weight}, heaviest first.

    A feature is the token, but for "." and "%", which are percent-encoded ("U.S" is "U%2ES"). sparse_vector refused a
    dot at first (elastic/elasticsearch#109118, lifted in #111981), and a rank_feature query takes what follows the last
    dot of its field for the feature (RankFeatureQueryBuilder.doToQuery).
    Both fields are Lucene FeatureFields, whose values must be positive, normal floats, and of which 9 significant bits
    are kept (an error of at most 2^-8); what is too light is dropped, with a warning that says how many.
    Raises ValueError at a negative weight.
    """
    return _features(vector, vocabulary, "Elasticsearch")


def opensearch(vector: SparseVector, vocabulary: Vocabulary) -> dict[str, float]:
    """The value of a `rank_features` field: {feature: weight}, as elasticsearch gives it and for the same reasons."""
    return _features(vector, vocabulary, "OpenSearch")


def from_features(features: Mapping[str, float], vocabulary: Vocabulary) -> SparseVector:
    """The inverse of elasticsearch and opensearch. Raises ValueError at a feature that is no token."""
    return vocabulary.vector({unquote(feature): weight for feature, weight in features.items()})


def elasticsearch_query(vector: SparseVector, vocabulary: Vocabulary, field: str) -> dict[str, Any]:
    """A query of a sparse_vector field: the dot product, without the pruning that Elasticsearch does by default.

    Beyond 1,024 tokens, which is as many clauses as Lucene takes unless told otherwise, the heaviest are kept, with a
    warning. An empty vector finds nothing.
    """
    weights = elasticsearch(heaviest(vector, MOST_QUERY_TOKENS, "a Lucene query"), vocabulary)
    return {"sparse_vector": {"field": field, "query_vector": weights, "prune": False}} if weights else _nothing()


def rank_features_query(vector: SparseVector, vocabulary: Vocabulary, field: str) -> dict[str, Any]:
    """A query of a rank_features field: the dot product, as one linear clause for each feature.

    For Elasticsearch and OpenSearch; limited as elasticsearch_query is.
    """
    weights = elasticsearch(heaviest(vector, MOST_QUERY_TOKENS, "a Lucene query"), vocabulary)
    clauses = [
        {"rank_feature": {"field": f"{field}.{feature}", "linear": {}, "boost": weight}}
        for feature, weight in weights.items()
    ]
    return {"bool": {"should": clauses}} if clauses else _nothing()


def opensearch_query(vector: SparseVector, vocabulary: Vocabulary, field: str) -> dict[str, Any]:
    """A neural_sparse query of a rank_features field, with the tokens given: the dot product.

    Limited as elasticsearch_query is.
    """
    weights = opensearch(heaviest(vector, MOST_QUERY_TOKENS, "a Lucene query"), vocabulary)
    return {"neural_sparse": {field: {"query_tokens": weights}}} if weights else _nothing()


def vespa(vector: SparseVector, vocabulary: Vocabulary) -> dict[str, dict[str, float]]:
    """The value of a `tensor<float>(token{})` field, or of such a query input: {"cells": {token: weight}}.

    Vespa takes {token: weight} alone, too, but then gives "cells", "blocks" and other keys a meaning of their own, and
    these are words.
    """
    return {"cells": tokens(vector, vocabulary)}


def from_vespa(tensor: Mapping[str, Mapping[str, float]], vocabulary: Vocabulary) -> SparseVector:
    """The inverse of vespa."""
    return from_tokens(tensor["cells"], vocabulary)


def seismic(vector: SparseVector, vocabulary: Vocabulary) -> dict[str, float]:
    """{token: weight}, heaviest first, as Seismic's JSON and its queries have it.

    Raises ValueError at a negative weight, or a token of more than 100 characters, which Seismic would cut.
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
            f"{engine} takes no weight below {LEAST_FEATURE:.3g}: {len(stored) - len(normal)} of {len(stored)} are "
            "dropped",
            stacklevel=3,
        )
    return {percent_encoded(token, "."): weight for token, weight in tokens(normal, vocabulary).items()}


def _nothing() -> dict[str, Any]:
    """What an empty query becomes: a Boolean query without clauses would match everything."""
    return {"match_none": {}}
