"""Queries on which a model and BM25 differ, and the documents and tokens that explain the difference."""

from __future__ import annotations

import pytest

from spladerunner import Expander
from spladerunner.evaluation.collection import Collection
from spladerunner.evaluation.query_analysis import analyze_queries
from spladerunner.evaluation.results import Evaluation, evaluate
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
    return evaluate(Collection.read(folder), [expander])


def test_an_analysis_has_two_documents_and_what_each_token_adds_to_their_scores(
    opposed: Evaluation, expander: Expander
) -> None:
    analyses = analyze_queries(opposed, expander)
    win = next(analysis for analysis in analyses if analysis.identifier == "win")
    assert win.difference > 0 and (win.relevant.identifier, win.relevant.model_rank) == ("expanded", 1)
    assert win.relevant.bm25_rank is None and win.nonrelevant is not None and win.nonrelevant.identifier == "other"
    explained = {match.token: match.product for match in expander.explain(win.query, win.relevant.text).shared}
    for token in win.model_tokens:
        assert token.relevant == pytest.approx(explained.get(token.token, 0))
    assert {token.token: token.in_query for token in win.model_tokens}["nuclear"]
    assert not all(token.in_query for token in win.model_tokens)
    assert {token.token for token in win.bm25_tokens} == {"who", "built"}
    assert all(token.margin < 0 and token.relevant == 0 for token in win.bm25_tokens)
    differences = [analysis.difference for analysis in analyses]
    assert differences == sorted(differences, reverse=True)


def test_losses_follow_wins_up_to_the_limit(opposed: Evaluation, expander: Expander) -> None:
    analyses = analyze_queries(opposed, expander)
    assert {analysis.identifier for analysis in analyses} == {"win", "loss"}
    loss = analyses[-1]
    assert loss.difference < 0 and loss.relevant.identifier == "late" and loss.relevant.bm25_rank == 1
    assert loss.nonrelevant is not None and loss.nonrelevant.identifier == "river" and loss.nonrelevant.model_rank == 1
    assert [token.token for token in loss.bm25_tokens] == ["trout"] and loss.bm25_tokens[0].margin > 0
    assert analyze_queries(opposed, expander, limit=0) == []
