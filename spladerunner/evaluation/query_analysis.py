"""Why a model answers a query better or worse than BM25: two documents, and the tokens that told them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spladerunner.evaluation.bm25 import words
from spladerunner.evaluation.measures import MAIN
from spladerunner.evaluation.results import Evaluation
from spladerunner.evaluation.search import Ranking
from spladerunner.expander import Expander

MOST = 100
"""How many queries are shown that the model answers better, and how many that it answers worse."""

TOKENS = 8
"""How many tokens are shown of each system."""


@dataclass(frozen=True)
class Judged:
    """A document with its rank by the model and by BM25, from 1; None where it is not among what is found."""

    identifier: str
    text: str
    model_rank: int | None
    bm25_rank: int | None


@dataclass(frozen=True)
class Token:
    """What a token adds to the score of the relevant document and to that of its rival.

    said: whether the query itself says the token.
    """

    token: str
    relevant: float
    rival: float
    said: bool

    @property
    def margin(self) -> float:
        """How far the token lifts the relevant document above the other."""
        return self.relevant - self.rival


@dataclass(frozen=True)
class Decision:
    """A query that the two systems answer unequally well.

    relevant: the relevant document that the better system ranks best. rival: what the worse system ranks best though
    it is not relevant; None where it finds no such document.
    """

    identifier: str
    query: str
    model_score: float
    bm25_score: float
    relevant: Judged
    rival: Judged | None
    model_tokens: Sequence[Token]
    bm25_tokens: Sequence[Token]

    @property
    def difference(self) -> float:
        """nDCG@10 of the model less that of BM25."""
        return self.model_score - self.bm25_score


def decisions(evaluation: Evaluation, expander: Expander, most: int = MOST) -> list[Decision]:
    """The largest wins of the first system, and its largest losses, as many of either as `most`; wins come first.

    expander: of that system's model. It encodes the documents that are shown once more.
    """
    system, collection = evaluation.systems[0], evaluation.collection
    model_scores, bm25_scores = system.scores[MAIN], evaluation.bm25.scores[MAIN]
    differences = model_scores - bm25_scores
    order = np.argsort(-differences, kind="stable")
    wins = [at for at in order if differences[at] > 0][:most]
    losses = [at for at in order if differences[at] < 0]
    losses = losses[max(len(losses) - most, 0) :]
    queries, ids = list(collection.queries), list(collection.documents)
    chosen: list[tuple[int, int, int | None]] = []
    for at in (*wins, *losses):
        relevant = {document for document, grade in collection.judgements[queries[at]].items() if grade > 0}
        both = system.rankings[at], evaluation.bm25.rankings[at]
        better, worse = both if differences[at] > 0 else both[::-1]
        first = next(document for document in better.documents.tolist() if ids[document] in relevant)
        rival = next((document for document in worse.documents.tolist() if ids[document] not in relevant), None)
        chosen.append((at, first, rival))

    shown = sorted({document for _, first, rival in chosen for document in (first, rival) if document is not None})
    vectors = expander.encode([collection.documents[ids[document]] for document in shown])
    weights = {
        document: expander.vocabulary.weights(system.pruning(vector))
        for document, vector in zip(shown, vectors, strict=True)
    }
    texts = [collection.queries[queries[at]] for at, _, _ in chosen]
    found = []
    for (at, first, rival), text, query, stems in zip(
        chosen, texts, expander.expand_query(texts), words(texts), strict=True
    ):
        own = expander.own_tokens(text, role="query")
        model = [_products(query, weights[document]) if document is not None else {} for document in (first, rival)]
        bm25 = [
            evaluation.bm25_index.contributions(stems, document) if document is not None else {}
            for document in (first, rival)
        ]

        def judged(document: int, at: int = at) -> Judged:
            return Judged(
                ids[document],
                collection.documents[ids[document]],
                _rank(system.rankings[at], document),
                _rank(evaluation.bm25.rankings[at], document),
            )

        found.append(
            Decision(
                queries[at],
                text,
                float(model_scores[at]),
                float(bm25_scores[at]),
                judged(first),
                None if rival is None else judged(rival),
                _deciding(model[0], model[1], own),
                _deciding(bm25[0], bm25[1], frozenset(stems)),
            )
        )
    return found


def _products(query: Mapping[str, float], document: Mapping[str, float]) -> dict[str, float]:
    return {token: weight * document[token] for token, weight in query.items() if token in document}


def _deciding(relevant: Mapping[str, float], rival: Mapping[str, float], own: frozenset[str]) -> list[Token]:
    """The tokens whose contributions differ most."""
    tokens = [
        Token(token, relevant.get(token, 0.0), rival.get(token, 0.0), token in own)
        for token in dict.fromkeys([*relevant, *rival])
    ]
    return sorted(tokens, key=lambda token: -abs(token.margin))[:TOKENS]


def _rank(ranking: Ranking, document: int) -> int | None:
    (places,) = np.nonzero(ranking.documents == document)
    return int(places[0]) + 1 if places.size else None
