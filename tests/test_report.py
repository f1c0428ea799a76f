"""What the report says; how it looks and works is seen in tests/browser."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

import numpy as np
import pytest

from spladerunner import Expander
from spladerunner.evaluation import charts, report
from spladerunner.evaluation.collection import Collection
from spladerunner.evaluation.query_analysis import decisions
from spladerunner.evaluation.results import Evaluation, evaluate
from spladerunner.evaluation.systems import UNPRUNED, Pruning
from tests.small_collection import HOSTILE, write_beir


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory, expander: Expander) -> Evaluation:
    folder = write_beir(tmp_path_factory.mktemp("data") / "small")
    return evaluate(Collection.read(folder), [expander], [UNPRUNED, Pruning(top=4), Pruning(min_weight=0.5)])


@pytest.fixture(scope="module")
def swapped(tmp_path_factory: pytest.TempPathFactory, expander: Expander) -> Evaluation:
    """Words that only one of the systems knows: expansions the one, and what stands far behind the other."""
    documents = {
        "expanded": ("", "the Manhattan Project and atomic weapons"),
        "late": ("", "weather report " * 200 + "trout"),
        "other": ("", "who built the house"),
        "river": ("", "the river where fish are"),
    }
    queries = {"win": "who built the nuclear bomb", "loss": "trout"}
    judgements = {"win": {"expanded": 1}, "loss": {"late": 1}}
    folder = write_beir(tmp_path_factory.mktemp("data") / "swapped", documents, queries, judgements)
    return evaluate(Collection.read(folder), [expander])


def test_a_decision_names_two_documents_and_what_each_token_adds_to_either(
    swapped: Evaluation, expander: Expander
) -> None:
    found = decisions(swapped, expander)
    win = next(decision for decision in found if decision.identifier == "win")
    assert win.difference > 0 and (win.relevant.identifier, win.relevant.model_rank) == ("expanded", 1)
    assert win.relevant.bm25_rank is None and win.rival is not None and win.rival.identifier == "other"
    explained = {match.token: match.product for match in expander.explain(win.query, win.relevant.text).shared}
    for token in win.model_tokens:
        assert token.relevant == pytest.approx(explained.get(token.token, 0))
    assert {token.token: token.said for token in win.model_tokens}["nuclear"]
    assert not all(token.said for token in win.model_tokens)
    assert {token.token for token in win.bm25_tokens} == {"who", "built"}
    assert all(token.margin < 0 and token.relevant == 0 for token in win.bm25_tokens)
    differences = [decision.difference for decision in found]
    assert differences == sorted(differences, reverse=True)


def test_losses_follow_wins_and_no_more_are_shown_than_asked_for(swapped: Evaluation, expander: Expander) -> None:
    found = decisions(swapped, expander)
    assert {decision.identifier for decision in found} == {"win", "loss"}
    loss = found[-1]
    assert loss.difference < 0 and loss.relevant.identifier == "late" and loss.relevant.bm25_rank == 1
    assert loss.rival is not None and loss.rival.identifier == "river" and loss.rival.model_rank == 1
    assert [token.token for token in loss.bm25_tokens] == ["trout"] and loss.bm25_tokens[0].margin > 0
    assert decisions(swapped, expander, most=0) == []


def test_the_page_needs_nothing_beside_it_and_holds_every_figure(evaluation: Evaluation, expander: Expander) -> None:
    page = report.page(evaluation, expander)
    assert not re.search(
        r"""\b(?:src|href)=["']?(?!["']|data:,)|@import|url\(""", page.replace("&quot;", "").split("<body>")[0]
    )
    assert "http" not in page.split("<body>")[0] and len(page) < 200_000
    for system in (*evaluation.systems, evaluation.bm25):
        for name in system.scores:
            assert f">{system.mean(name):.3f}</td>" in page
        assert f"{system.documents.postings:,}" in page
    for warning in (*evaluation.warnings, *evaluation.notes()):
        assert escape(str(warning)) in page


def test_hostile_text_is_escaped(tmp_path: Path, expander: Expander) -> None:
    documents = {"<d1>": (HOSTILE, "honey"), "d2": ("", "trout \x00")}
    folder = write_beir(
        tmp_path / "a<b>&",
        documents,
        {"<q>": f"honey {HOSTILE}", "q2": "who is it"},
        {"<q>": {"<d1>": 1}, "q2": {"d2": 1}},
    )
    page = report.page(evaluate(Collection.read(folder), [expander], names=["<model>"]), expander)
    body = page.split("<body>")[1].split("\n<script>")[0]
    assert "a&lt;b&gt;&amp;" in body and "&lt;model&gt;" in body
    assert not re.search(r"<(script|img|b>&|d1|q>|model)", body)
    page.encode()


def test_nothing_found_is_a_page_too(tmp_path: Path, expander: Expander) -> None:
    folder = write_beir(tmp_path / "e", {"d": ("", "")}, {"q": ""}, {"q": {"d": 1}})
    page = report.page(evaluate(Collection.read(folder), [expander], [UNPRUNED, Pruning(top=2)]), expander)
    assert "empty documents, which no query finds: 1" in page and "equal on 1" in page


def test_histograms_count_everything_in_few_bars() -> None:
    counts = np.zeros(1000, dtype=np.int64)
    counts[[0, 10, 999]] = 1, 5, 2
    drawn = charts.histogram(counts, 1, "Weights", "")
    bars = re.findall(r"<title>(\S+) to (\S+): (\d+)<", drawn)
    assert bars == [("0", "49", "6"), ("950", "999", "2")] or sum(int(count) for _, _, count in bars) == 8
    assert "mean 256" in drawn and "median 10 " in drawn
    assert charts.histogram(np.zeros(3, dtype=np.int64), 1, "Weights", "") == ""


def test_points_stand_where_their_figures_are_and_labels_do_not_collide() -> None:
    points = [
        charts.Point("a", "a", 1e6, 0.2, 0, ""),
        charts.Point("b", "b", 1e6, 0.201, 0, "top"),
        charts.Point("c", "c", 1e7, 0.4, None, ""),
    ]
    drawn = charts.scatter(points, lambda count: f"{count:g}", "nDCG@10")
    dots = re.findall(r'class="dot [^>]*left:([\d.]+)%;bottom:([\d.]+)%', drawn)
    places = [(float(x), float(y)) for x, y in dots]
    assert places[0][0] == places[1][0] < places[2][0] and places[0][1] < places[1][1] < places[2][1]
    sides = re.findall(r'class="name (\w+)"', drawn)
    assert sides[0] != sides[1]
    assert all(0 <= value <= 100 for place in places for value in place)


def test_many_queries_are_drawn_as_a_few_hundred_bars() -> None:
    values = np.linspace(-1, 1, 7001).tolist()
    assert charts.differences(values).count("<rect") <= charts.MOST_DIFFERENCES
    assert charts.differences([0.0, 0.0]).count("<rect") == 0
