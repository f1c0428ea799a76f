"""Tables for a paper, read back."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from spladerunner import Expander
from spladerunner.cli.eval import drawn
from spladerunner.evaluation import tables
from spladerunner.evaluation.collection import Collection
from spladerunner.evaluation.means import Means
from spladerunner.evaluation.results import Evaluation, evaluate
from spladerunner.evaluation.systems import UNPRUNED, Pruning
from tests.small_collection import write_beir

NAME = "a_b|50%"


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory, expander: Expander) -> Evaluation:
    folder: Path = tmp_path_factory.mktemp("data") / "small"
    collection = Collection.read(write_beir(folder))
    return evaluate(collection, [expander], [UNPRUNED, Pruning(top=2)], names=[NAME], measures=["AP", "R@100"])


def test_markdown_has_a_row_for_each_system(evaluation: Evaluation) -> None:
    text = tables.markdown(tables.systems_table(evaluation))
    head, rule, *rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines()[2:]]
    assert [cell.strip() for cell in head][:4] == ["system", "AP", "R@100", "minus BM25's"]
    assert len({len(row) for row in (head, rule, *rows)}) == 1
    names = [row[0].strip().replace("\\|", "|") for row in rows]
    assert names == ["BM25", NAME, f"{NAME}, top 2"]
    best = max(system.mean("AP") for system in evaluation.systems)
    for row, system in zip(rows, evaluation.systems, strict=True):
        shown = f"{system.mean('AP'):.3f}"
        assert row[1].strip() == (f"**{shown}**" if shown == f"{best:.3f}" else shown)


def test_latex_escapes_what_it_would_read_as_commands(evaluation: Evaluation) -> None:
    text = tables.latex(tables.systems_table(evaluation))
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    assert r"a\_b|50\%, top 2 & " in body
    columns = re.search(r"\\begin\{tabular\}\{(l(r+))\}", text)
    assert columns
    for line in body.strip().splitlines():
        assert line.endswith(r" \\") and line.count(" & ") == len(columns[2])
    assert "$-$0." in body and not re.search(r"(?<![\\$])[%_#]", text)


def test_csv_has_every_figure_with_all_its_digits(evaluation: Evaluation) -> None:
    rows = list(csv.DictReader(tables.csv_text(Means([evaluation, evaluation])).splitlines()))
    assert [row["collection"] for row in rows] == ["small"] * 3 + ["small~2"] * 3
    for row, record in zip(rows, evaluation.record()["systems"], strict=False):
        assert row["system"] == record["name"]
        figures = {**record["measures"], **(record["against_bm25"] or {})}
        figures |= {key: record[key] for key in ("postings", "flops", "documents_per_second")}
        for key, figure in figures.items():
            assert row[key] == ("" if figure is None else repr(figure))


def test_models_are_compared_with_one_another_in_a_table_of_pairs(evaluation: Evaluation) -> None:
    ((name, cells),) = tables.pairs_table(evaluation).rows
    (pair,) = (pair.comparison for pair in evaluation.pairs if pair.other != "BM25")
    assert name == f"{NAME}, top 2 minus {NAME}"
    assert [cell.value for cell in cells] == [
        pair.difference,
        pair.p,
        pair.p_holm,
        pair.better,
        pair.worse,
        pair.equal,
    ]


def test_every_format_has_each_collection_and_the_means(evaluation: Evaluation) -> None:
    means = Means([evaluation, evaluation])
    for format in ("text", "markdown", "latex"):
        text = drawn(means, format)
        assert text.count("small, test: 10 documents") == 2 and "Holm" in text
    (table,) = (text for text in drawn(means, "markdown").split("\n\n") if text.startswith("| system | small |"))
    assert table.splitlines()[0] == "| system | small | small~2 | mean |"
    assert [line.replace("*", "").split(" | ")[1:] for line in table.splitlines()[2:]] == [
        [f"{system.mean('AP'):.3f}"] * 2 + [f"{system.mean('AP'):.3f} |"] for system in evaluation.systems
    ]
