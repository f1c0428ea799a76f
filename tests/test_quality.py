"""Retrieval quality of the embedded bundle on judged collections: one source, and every place that states it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.quality import COLLECTIONS, STATED, torch_scores
from spladerunner import Expander, list_models
from spladerunner.evaluation.collection import Collection
from spladerunner.evaluation.measures import MAIN
from spladerunner.evaluation.systems import evaluate_bm25, evaluate_model
from spladerunner.models import EMBEDDED
from tests.conftest import ROOT

ALLOWED = 0.005
"""Between the bundle and its checkpoints, and between releases of onnxruntime and kinds of processor."""

FIGURES = json.loads(STATED.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", ["models/README.md", "docs/models.md"])
@pytest.mark.parametrize(("row", "system"), [("embedded pair, int8", EMBEDDED), ("BM25", "BM25")])
def test_tables_state_the_figures_that_the_command_wrote(page: str, row: str, system: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    (found,) = re.findall(rf"^\| {re.escape(row)} \| ([\d.]+) \| ([\d.]+) \|$", text, flags=re.MULTILINE)
    assert list(found) == [f"{FIGURES[name][system]:.3f}" for name in COLLECTIONS]
    assert re.search(r"grade\s+as\s+its\s+gain", text)


def test_the_registry_and_its_listing_state_the_figure_that_the_command_wrote() -> None:
    (spec,) = (spec for spec in list_models() if spec.name == EMBEDDED)
    stated = f"nDCG@10 {FIGURES['scifact'][EMBEDDED]:.3f} (SciFact)"
    assert spec.score == stated and stated in (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


def test_no_other_figure_is_stated_of_the_pair_on_scifact() -> None:
    figure = f"{FIGURES['scifact'][EMBEDDED]:.3f}"
    for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("models/**/*.md"), *ROOT.glob("*.md")]:
        for found in re.findall(r"nDCG@10 (0\.\d+) \(SciFact\)", path.read_text(encoding="utf-8")):
            assert found == figure, path


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize(("name", "queries"), [("scifact", 300), ("cranfield", 225)])
def test_the_bundle_retrieves_as_well_as_its_checkpoints_and_as_is_stated(
    shared: Path, expander: Expander, name: str, queries: int
) -> None:
    collection = Collection.read(shared / "data" / name)
    assert len(collection.queries) == queries
    (int8,) = evaluate_model(collection, expander)
    bm25, _ = evaluate_bm25(collection)
    float32 = float(torch_scores(collection, shared / "tiny-en", expander.vocabulary)[MAIN].mean())
    assert int8.mean(MAIN) == pytest.approx(float32, abs=ALLOWED)
    assert bm25.mean(MAIN) == pytest.approx(FIGURES[name]["BM25"], abs=0.001)
    assert int8.mean(MAIN) == pytest.approx(FIGURES[name][EMBEDDED], abs=ALLOWED)
