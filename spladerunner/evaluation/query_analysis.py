"""Query by query: the documents and tokens by which a model does better or worse than BM25."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spladerunner.evaluation.bm25 import stem
from spladerunner.evaluation.measures import MAIN
from spladerunner.evaluation.results import Evaluation
from spladerunner.evaluation.search import Ranking
from spladerunner.expander import Expander

LIMIT = 100
"""Analyzed queries on which the model is better, and on which it is worse."""

TOKENS = 8
"""Tokens listed for each system."""


@dataclass(frozen=True)
class RankedDocument:
    """A document with its ranks by the model and by BM25, from 1; None if it is not in the ranking."""

    identifier: str
    text: str
    model_rank: int | None
    bm25_rank: int | None


@dataclass(frozen=True)
class Contribution:
    """A token's share of the scores of a relevant and a nonrelevant document.

    in_query: the token is one of the query's own, not an expansion.
    """

    token: str
    relevant: float
    nonrelevant: float
    in_query: bool

    @property
    def margin(self) -> float:
        """The relevant document's share minus the other's."""
        return self.relevant - self.nonrelevant


@dataclass(frozen=True)
class QueryAnalysis:
    """A query on which the model and BM25 differ in nDCG@10.

    relevant: the relevant document that the better system ranks highest.
    nonrelevant: the nonrelevant document that the worse system ranks highest; None if it retrieves none.
    model_tokens, bm25_tokens: by the size of their margin, largest first.
    """

    identifier: str
    query: str
    model_score: float
    bm25_score: float
    relevant: RankedDocument
    nonrelevant: RankedDocument | None
    model_tokens: Sequence[Contribution]
    bm25_tokens: Sequence[Contribution]

    @property
    def difference(self) -> float:
        """The model's nDCG@10 minus BM25's."""
        return self.model_score - self.bm25_score


def analyze_queries(evaluation: Evaluation, expander: Expander, limit: int = LIMIT) -> list[QueryAnalysis]:
    """Analyzes the queries on which the first system differs most from BM25, largest wins first, largest losses last.

    expander: the first system's model; it encodes the analyzed documents once more. limit: number of wins, and of
    losses.
    """
    system, bm25, collection = evaluation.model_systems[0], evaluation.bm25, evaluation.collection
    differences = system.scores[MAIN] - bm25.scores[MAIN]
    queries, ids = list(collection.queries), list(collection.documents)
    chosen: list[tuple[int, int, int | None]] = []
    for at in _largest(differences, limit):
        relevant = {document for document, grade in collection.judgments[queries[at]].items() if grade > 0}
        rankings = system.rankings[at], bm25.rankings[at]
        better, worse = rankings if differences[at] > 0 else rankings[::-1]
        first = next(document for document in better.documents.tolist() if ids[document] in relevant)
        other = next((document for document in worse.documents.tolist() if ids[document] not in relevant), None)
        chosen.append((at, first, other))

    documents = sorted({document for _, *pair in chosen for document in pair if document is not None})
    vectors = expander.encode([collection.documents[ids[document]] for document in documents])
    weights = {
        document: expander.vocabulary.weights(system.pruning(vector))
        for document, vector in zip(documents, vectors, strict=True)
    }

    def ranked(document: int, query: int) -> RankedDocument:
        return RankedDocument(
            ids[document],
            collection.documents[ids[document]],
            _rank(system.rankings[query], document),
            _rank(bm25.rankings[query], document),
        )

    texts = [collection.queries[queries[at]] for at, _, _ in chosen]
    analyses = []
    for (at, first, other), text, query_weights, stems in zip(
        chosen, texts, expander.expand_query(texts), stem(texts), strict=True
    ):
        products = [_products(query_weights, weights[document]) for document in (first, other) if document is not None]
        shares = [
            evaluation.bm25_index.contributions(stems, document) for document in (first, other) if document is not None
        ]
        analyses.append(
            QueryAnalysis(
                queries[at],
                text,
                float(system.scores[MAIN][at]),
                float(bm25.scores[MAIN][at]),
                ranked(first, at),
                None if other is None else ranked(other, at),
                _largest_margins(*products, own=expander.own_tokens(text, role="query")),
                _largest_margins(*shares, own=frozenset(stems)),
            )
        )
    return analyses


def _largest(differences: np.ndarray[tuple[int, ...], np.dtype[np.float64]], limit: int) -> list[int]:
    """Positions of the largest differences above 0, then of the largest below 0, in descending order."""
    order = np.argsort(-differences, kind="stable").tolist()
    wins = [at for at in order if differences[at] > 0][:limit]
    losses = [at for at in order if differences[at] < 0]
    return [*wins, *losses[max(len(losses) - limit, 0) :]]


def _products(query: Mapping[str, float], document: Mapping[str, float]) -> dict[str, float]:
    return {token: weight * document[token] for token, weight in query.items() if token in document}


def _largest_margins(
    relevant: Mapping[str, float], nonrelevant: Mapping[str, float] | None = None, *, own: frozenset[str]
) -> list[Contribution]:
    nonrelevant = nonrelevant or {}
    contributions = [
        Contribution(token, relevant.get(token, 0.0), nonrelevant.get(token, 0.0), token in own)
        for token in dict.fromkeys([*relevant, *nonrelevant])
    ]
    return sorted(contributions, key=lambda contribution: -abs(contribution.margin))[:TOKENS]


def _rank(ranking: Ranking, document: int) -> int | None:
    (places,) = np.nonzero(ranking.documents == document)
    return int(places[0]) + 1 if places.size else None
