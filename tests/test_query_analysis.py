"""Queries on which a model and BM25 differ, and the documents and tokens that explain the difference."""

from __future__ import annotations

import pytest

from spladerunner import Expander
from spladerunner.evaluation.collection import Collection
from spladerunner.evaluation.query_analysis import analyze_queries
from spladerunner.evaluation.results import Evaluation, evaluate
from spladerunner.evaluation.systems import UNPRUNED, Pruning
from tests.small_collection import write_beir


@pytest.fixture(scope="module")
def opposed(tmp_path_factory: pytest.TempPathFactory, expander: Expander) -> Evaluation:
    """A query that only expansions match, and one whose word lies beyond the model's maximum length."""
    documents = {
        "expanded": ("", "the Manhattan Project and atomic weapons"),
        "late": ("", "weather report " * 200 + "trout"),
        "other": ("", "who built the house"),
        "river": ("", "the river where fish are"),
    }
    queries = {"win": "who built the nuclear bomb", "loss": "trout"}
    judgments = {"win": {"expanded": 1}, "loss": {"late": 1}}
    folder = write_beir(tmp_path_factory.mktemp("data") / "opposed", documents, queries, judgments)
    return evaluate(Collection.read(folder), [expander], [UNPRUNED, Pruning(top=20)], fusion_weight=0.5)


def test_an_analysis_has_documents_and_what_each_token_adds_to_their_scores(
    opposed: Evaluation, expander: Expander
) -> None:
    analyses = {analysis.identifier: analysis for analysis in analyze_queries(opposed, {"tiny-en": expander})}
    bm25, model, pruned, fused = range(4)
    win = analyses["win"]
    assert win.scores[model] > win.scores[bm25] == 0 and win.scores[fused] > 0
    relevant, nonrelevant = win.relevant[model], win.nonrelevant[bm25]
    assert relevant is not None and nonrelevant is not None and win.relevant[bm25] is None
    found, other = win.documents[relevant], win.documents[nonrelevant]
    assert (found.identifier, found.ranks[model], found.ranks[bm25]) == ("expanded", 1, None)
    assert (other.identifier, other.ranks[bm25]) == ("other", 1)
    for place, document in enumerate(win.documents):
        explained = {match.token: match.product for match in expander.explain(win.query, document.text).shared}
        shares = {token.token: token.shares[place] for token in win.contributions[model] if token.shares[place]}
        assert shares == pytest.approx(explained)
        stems = {token.token: token.shares[place] for token in win.contributions[bm25]}
        assert {stem for stem, share in stems.items() if share} == ({"who", "built"} if document == other else set())
    assert {token.token: token.in_query for token in win.contributions[model]}["nuclear"]
    assert not all(token.in_query for token in win.contributions[model])
    (query,) = expander.encode(win.query, role="query")
    for place, vector in enumerate(expander.encode([document.text for document in win.documents])):
        assert sum(token.shares[place] for token in win.contributions[pruned]) == pytest.approx(
            query.dot(vector.top(20))
        )
    assert win.contributions[fused] == []


def test_a_lost_query_has_the_documents_of_both_systems(opposed: Evaluation, expander: Expander) -> None:
    analyses = analyze_queries(opposed, {"tiny-en": expander})
    assert {analysis.identifier for analysis in analyses} == {"win", "loss"}
    loss = next(analysis for analysis in analyses if analysis.identifier == "loss")
    relevant, nonrelevant = loss.relevant[0], loss.nonrelevant[1]
    assert loss.scores[1] < loss.scores[0] and relevant is not None and nonrelevant is not None
    assert (loss.documents[relevant].identifier, loss.documents[relevant].ranks[0]) == ("late", 1)
    assert (loss.documents[nonrelevant].identifier, loss.documents[nonrelevant].ranks[1]) == ("river", 1)
    (token,) = loss.contributions[0]
    assert token.token == "trout" and token.in_query and token.shares[relevant] > 0 == token.shares[nonrelevant]


def test_the_queries_that_differ_most_come_first_up_to_the_limit(opposed: Evaluation, expander: Expander) -> None:
    analyses = analyze_queries(opposed, {"tiny-en": expander})
    spreads = [max(analysis.scores) - min(analysis.scores) for analysis in analyses]
    assert spreads == sorted(spreads, reverse=True)
    assert analyze_queries(opposed, {"tiny-en": expander}, limit=1) == analyses[:1]
    assert analyze_queries(opposed, {"tiny-en": expander}, limit=0) == []
