"""Retrieval quality of the embedded bundle on judged collections, beside its checkpoints and BM25."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.quality import quality
from spladerunner import Expander
from spladerunner.evaluation.collection import Collection
from tests.conftest import ROOT

ALLOWED = 0.005
BM25 = {"scifact": 0.676, "cranfield": 0.333}


def stated(row: str) -> dict[str, float]:
    """The figures of a row of the table in models/README.md."""
    card = (ROOT / "models" / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^\| {re.escape(row)} \| ([\d.]+) \| ([\d.]+) \|", card, flags=re.MULTILINE)
    assert found, f"models/README.md has no row {row!r}"
    return {"scifact": float(found[1]), "cranfield": float(found[2])}


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize(("name", "queries"), [("scifact", 300), ("cranfield", 225)])
def test_int8_retrieves_as_well_as_the_checkpoints_and_the_card_says_so(
    shared: Path, expander: Expander, name: str, queries: int
) -> None:
    collection = Collection.read(shared / "data" / name)
    assert len(collection.queries) == queries
    figures = quality(collection, expander, shared / "tiny-en")
    int8, float32, bm25 = figures.values()
    assert int8 == pytest.approx(float32, abs=ALLOWED)
    assert bm25 == pytest.approx(BM25[name], abs=0.001)
    for row, figure in figures.items():
        assert stated(row)[name] == pytest.approx(figure, abs=0.001)
