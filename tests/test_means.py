"""Several collections in one evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spladerunner import Expander
from spladerunner.evaluation.collection import Collection
from spladerunner.evaluation.means import Means
from spladerunner.evaluation.results import evaluate
from spladerunner.evaluation.systems import UNPRUNED, Pruning
from tests.small_collection import DOCUMENTS, JUDGMENTS, QUERIES, write_beir


@pytest.fixture(scope="module")
def means(tmp_path_factory: pytest.TempPathFactory, expander: Expander) -> Means:
    """A graded collection, and another of the same name with one query that BM25 does not answer."""
    folder = tmp_path_factory.mktemp("data")
    other = {"q1": {"d1": 1}, "q7": {"d3": 1}}
    collections = [
        Collection.read(write_beir(folder / "a" / "small", DOCUMENTS, QUERIES, JUDGMENTS)),
        Collection.read(write_beir(folder / "b" / "Small", DOCUMENTS, QUERIES, other)),
    ]
    return Means([evaluate(collection, [expander], [UNPRUNED, Pruning(top=2)]) for collection in collections])


def test_each_collection_counts_the_same(means: Means) -> None:
    first, second = means.evaluations
    assert len(first.collection.queries) != len(second.collection.queries)
    rows = {row.key: row for row in means.rows()}
    assert [*rows] == ["nDCG@10", "MRR@10", "recall@100", "recall@1000"]  # the gain 2^grade - 1 is of the first alone
    for name, row in rows.items():
        expected = [(a.mean(name) + b.mean(name)) / 2 for a, b in zip(first.systems, second.systems, strict=True)]
        assert [cell.value for cell in row.cells] == pytest.approx(expected)
    assert rows["MRR@10"].cells[0].value == pytest.approx((5 / 6 + 1 / 2) / 2)  # BM25 fails one query of each


def test_each_collection_has_a_folder_beside_the_means(means: Means, tmp_path: Path) -> None:
    means.save(tmp_path)
    assert means.folders() == ["small", "Small~2"]
    record = json.loads((tmp_path / "means.json").read_text())
    assert record["collections"] == means.folders()
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in means.folders()]
    for at, (system, figures) in enumerate(record["means"].items()):
        assert {result["systems"][at]["name"] for result in results} == {system}
        for name, figure in figures.items():
            values = [result["systems"][at]["measures"][name] for result in results]
            assert figure == pytest.approx(sum(values) / 2)
    assert all((tmp_path / name / "BM25.run").is_file() for name in means.folders())
