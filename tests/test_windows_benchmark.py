"""The benchmark of windows, on documents whose end answers the query."""

from __future__ import annotations

import pytest

from benchmarks.windows import Row, report, rows
from spladerunner import Expander
from spladerunner.evaluation.collection import Collection
from spladerunner.evaluation.measures import MAIN
from spladerunner.evaluation.systems import evaluate_model

DOCUMENTS = {
    "honey": "bees make honey from the nectar of flowers",  # ten tokens
    "end": "the savings bank lends money to others and trout live in cold rivers",
    "begin": "trout bees make honey from the nectar of flowers in a jar of honey",
}


@pytest.fixture(scope="module")
def collection() -> Collection:
    return Collection("three", "test", DOCUMENTS, {"q": "where do trout live"}, {"q": {"end": 1}})


@pytest.mark.slow
def test_the_ways_of_reading_long_documents(collection: Collection) -> None:
    found = list(rows(collection, Expander(max_length={"doc": 10}), 8))
    assert [row.way for row in found] == [
        "beginning",
        *("maximum of windows, overlap 0", "best passage, overlap 0"),
        *("maximum of windows, overlap 2", "best passage, overlap 2"),
    ]
    (system,) = evaluate_model(collection, Expander(max_length={"doc": 10}))
    assert found[0].ndcg == system.mean(MAIN) < 1
    assert [row.ndcg for row in found[1:]] == [1.0] * 4
    tokens = [count.total for count in Expander().count_tokens(DOCUMENTS.values())]
    assert tokens == [10, 14, 16]
    assert [row.runs for row in found] == pytest.approx([1, 2, 2, 7 / 3, 7 / 3])
    assert [row.read for row in found] == pytest.approx([24 / 40, 1, 1, 48 / 40, 48 / 40])
    assert found[1].weights < found[2].weights  # the windows of a document share tokens


def test_the_table_divides_cpu_time_by_that_of_the_beginnings() -> None:
    beginning = Row("beginning", ndcg=0.6094, runs=1.0, read=0.8, cpu_seconds=40.0, weights=199.4)
    whole = Row("maximum of windows, overlap 0", ndcg=0.6151, runs=1.5, read=1.0, cpu_seconds=50.0, weights=230.5)
    table = report({"256": [beginning._asdict(), whole._asdict()]}).splitlines()
    assert table[2:] == [
        "| 256 | beginning | 0.609 | 1.00 | 0.80 | 1.00 | 199 |",
        "| 256 | maximum of windows, overlap 0 | 0.615 | 1.50 | 1.00 | 1.25 | 230 |",
    ]
