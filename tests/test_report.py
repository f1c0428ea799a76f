"""The text of the report; its looks and its script are tested in tests/browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import escape as escaped

from spladerunner import Expander
from spladerunner.evaluation import charts, report
from spladerunner.evaluation.collection import Collection
from spladerunner.evaluation.results import Evaluation, evaluate
from spladerunner.evaluation.systems import UNPRUNED, Pruning
from tests.small_collection import HOSTILE, write_beir


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory, expander: Expander) -> Evaluation:
    folder = write_beir(tmp_path_factory.mktemp("data") / "small")
    return evaluate(Collection.read(folder), [expander], [UNPRUNED, Pruning(top=4), Pruning(min_weight=0.5)])


@pytest.mark.slow
def test_the_page_is_self_contained_and_has_every_figure(evaluation: Evaluation, expander: Expander) -> None:
    page = report.page(evaluation, {"tiny-en": expander})
    assert not re.search(
        r"""\b(?:src|href)=["']?(?!["']|data:,)|@import|url\(""", page.replace("&quot;", "").split("<body>")[0]
    )
    assert "http" not in page.split("<body>")[0] and len(page) < 200_000
    for system in evaluation.systems:
        for name in system.scores:
            assert f">{system.mean(name):.3f}</td>" in page
        assert f"{system.documents.postings:,}" in page
    for group in evaluation.rows().values():
        for row in group:
            cells = re.findall(r"<td[^>]*>(.*?)</td>", page.split(f'<th scope="row">{escaped(row.label)}</th>')[1])
            assert cells[: len(row.cells)] == [escaped(cell.text).replace("-", "−") for cell in row.cells]
    for line in (*evaluation.caveats, *evaluation.notes()):
        assert escaped(str(line)) in page


@pytest.mark.slow
def test_hostile_text_is_escaped(tmp_path: Path, expander: Expander) -> None:
    documents = {"<d1>": (HOSTILE, "honey"), "d2": ("", "trout \x00")}
    folder = write_beir(
        tmp_path / "a<b>&",
        documents,
        {"<q>": f"honey {HOSTILE}", "q2": "who is it"},
        {"<q>": {"<d1>": 1}, "q2": {"d2": 1}},
    )
    page = report.page(evaluate(Collection.read(folder), [expander], names=["<model>"]), {"<model>": expander})
    body, data, script = page.split("<body>")[1].split("\n<script")
    assert "<" not in data.partition(">")[2].removesuffix("</script>")
    assert script.count("<") == script.count("< ") + script.count("</")
    assert "a&lt;b&gt;&amp;" in body and "&lt;model&gt;" in body
    assert not re.search(r"<(script|img|b>&|d1|q>|model)", body)
    page.encode()


def test_points_are_labeled_by_what_is_kept_and_the_baseline_by_its_name(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = list[tuple[list[charts.Point], charts.Point, str]]()

    def draw(*given: Any) -> list[str]:
        drawn.append(given)
        return []

    monkeypatch.setattr(charts, "quality_against_size", draw)
    report._quality_against_size(evaluation, {"tiny-en": "model3"})
    ((points, baseline, measure),) = drawn
    assert [(point.label, point.color, point.line) for point in points] == [
        ("all", "model3", ""),
        ("4", "model3", "top"),
        ("≥ 0.5", "model3", "min"),
    ]
    assert (baseline.label, baseline.color, measure) == ("BM25", "bm25", "nDCG@10")
    assert [point.size for point in points] == [system.documents.bytes for system in evaluation.model_systems]


def test_only_a_text_that_is_longer_is_shortened() -> None:
    whole = "x" * report.SNIPPET
    assert report._shortened(whole) == whole and report._shortened(whole + "y") == whole + "…"


def test_an_evaluation_that_retrieves_nothing_has_a_page(tmp_path: Path, expander: Expander) -> None:
    folder = write_beir(tmp_path / "e", {"d": ("", "")}, {"q": ""}, {"q": {"d": 1}})
    page = report.page(evaluate(Collection.read(folder), [expander], [UNPRUNED, Pruning(top=2)]), {"tiny-en": expander})
    assert "empty documents, which no query finds: 1" in page and "equal on 1" in page


def test_the_mean_and_the_median_of_a_histogram_are_those_worked_by_hand() -> None:
    """A number of tokens is itself, and a weight is taken for the middle of its bin."""
    counts = np.array([0, 1, 0, 3])
    lengths = report._histogram("a", "Lengths", counts, 1, "model0")
    weights = report._histogram("a", "Weights", counts, 0.5, "model0")
    assert (lengths.mean, lengths.median) == (2.5, 3) and (weights.mean, weights.median) == (1.5, 1.75)
