"""Query by query: the documents and tokens by which one system does better or worse than another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from spladerunner.evaluation.bm25 import stem
from spladerunner.evaluation.results import Evaluation
from spladerunner.evaluation.search import Ranking
from spladerunner.evaluation.systems import System
from spladerunner.expander import Expander
from spladerunner.vector import SparseVector

LIMIT = 300
"""Analyzed queries: those on which the systems differ most."""


@dataclass(frozen=True)
class RankedDocument:
    """A document with its rank by each system, from 1; None if it is not in the ranking."""

    identifier: str
    text: str
    ranks: Sequence[int | None]


class Contribution(NamedTuple):
    """A token's share of the score of each document of a query.

    in_query: the token is one of the query's own, not an expansion.
    """

    token: str
    in_query: bool
    shares: Sequence[float]


@dataclass(frozen=True)
class QueryAnalysis:
    """A query on which systems differ in the main measure.

    scores: of each system. documents: those that explain the differences.
    relevant, nonrelevant: of each system, the position in `documents` of the relevant and of the nonrelevant document
    that it ranks highest; None if it retrieves none.
    contributions: of each system, the tokens that its query shares with a document; none for a fusion.
    """

    identifier: str
    query: str
    scores: Sequence[float]
    documents: Sequence[RankedDocument]
    relevant: Sequence[int | None]
    nonrelevant: Sequence[int | None]
    contributions: Sequence[Sequence[Contribution]]


def analyze_queries(
    evaluation: Evaluation, expanders: Mapping[str, Expander], limit: int = LIMIT
) -> list[QueryAnalysis]:
    """Analyzes the queries on which systems differ, most first.

    expanders: of each model, {name: expander}; they encode the documents of the analyses once more.
    """
    systems, collection = evaluation.systems, evaluation.collection
    scores = np.stack([system.scores[evaluation.main] for system in systems])
    spread = np.ptp(scores, axis=0)
    chosen = [at for at in np.argsort(-spread, kind="stable").tolist() if spread[at] > 0][:limit]
    queries, ids = list(collection.queries), list(collection.documents)
    relevant = [_best(evaluation, at, relevant=True) for at in chosen]
    nonrelevant = [_best(evaluation, at, relevant=False) for at in chosen]
    documents = [
        sorted({document for document in (*found, *other) if document is not None})
        for found, other in zip(relevant, nonrelevant, strict=True)
    ]
    texts = [collection.queries[queries[at]] for at in chosen]
    contributions = [_of_bm25(evaluation, text, row) for text, row in zip(texts, documents, strict=True)]
    by_system = {evaluation.bm25.name: contributions}
    for model, expander in expanders.items():
        of_model = [system for system in systems if system.model == model and system.fusion is None]
        by_system |= _of_model(evaluation, of_model, expander, texts, documents)
    return [
        QueryAnalysis(
            queries[at],
            text,
            scores[:, at].tolist(),
            [
                RankedDocument(
                    ids[document],
                    collection.documents[ids[document]],
                    [_rank(system.rankings[at], document) for system in systems],
                )
                for document in row
            ],
            [None if document is None else row.index(document) for document in found],
            [None if document is None else row.index(document) for document in other],
            [by_system[system.name][place] if system.name in by_system else [] for system in systems],
        )
        for place, (at, text, row, found, other) in enumerate(
            zip(chosen, texts, documents, relevant, nonrelevant, strict=True)
        )
    ]


def _best(evaluation: Evaluation, query: int, relevant: bool) -> list[int | None]:
    """The relevant, or the nonrelevant, document that each system ranks highest."""
    ids = list(evaluation.collection.documents)
    grades = evaluation.collection.judgments[list(evaluation.collection.queries)[query]]
    return [
        next((at for at in system.rankings[query].documents.tolist() if (grades.get(ids[at], 0) > 0) == relevant), None)
        for system in evaluation.systems
    ]


def _of_bm25(evaluation: Evaluation, text: str, documents: Sequence[int]) -> list[Contribution]:
    (stems,) = stem([text])
    shares = [evaluation.bm25_index.contributions(stems, document) for document in documents]
    return _contributions(shares, frozenset(stems))


def _of_model(
    evaluation: Evaluation,
    systems: Sequence[System],
    expander: Expander,
    texts: Sequence[str],
    documents: Sequence[Sequence[int]],
) -> dict[str, list[list[Contribution]]]:
    """The contributions of each query, for each system of one model."""
    ids, bodies = list(evaluation.collection.documents), evaluation.collection.documents
    every = sorted({document for row in documents for document in row})
    vectors = dict(zip(every, expander.stream([bodies[ids[document]] for document in every]), strict=True))
    queries = expander.encode(texts, role="query")
    own = [expander.own_tokens(text, role="query") for text in texts]
    weights = expander.vocabulary.weights

    def shares(system: System, query: SparseVector, document: int) -> dict[str, float]:
        of_query = weights(system.query_pruning(query))
        of_document = weights(system.pruning(vectors[document]))
        return {token: weight * of_document[token] for token, weight in of_query.items() if token in of_document}

    return {
        system.name: [
            _contributions([shares(system, query, document) for document in row], tokens)
            for query, row, tokens in zip(queries, documents, own, strict=True)
        ]
        for system in systems
    }


def _contributions(shares: Sequence[Mapping[str, float]], own: frozenset[str]) -> list[Contribution]:
    tokens = dict.fromkeys(token for row in shares for token in row)
    return [Contribution(token, token in own, [row.get(token, 0.0) for row in shares]) for token in tokens]


def _rank(ranking: Ranking, document: int) -> int | None:
    (places,) = np.nonzero(ranking.documents == document)
    return int(places[0]) + 1 if places.size else None
