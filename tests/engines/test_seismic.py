from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from seismic import SeismicIndex, get_seismic_string

from spladerunner import SparseVector, formats
from spladerunner.formats.by_token import LONGEST_SEISMIC_TOKEN
from tests.engines.pages import run_page
from tests.engines.scifact import TOP, SciFact, assert_same_top, exact_scores, shared_top


def build(folder: Path, documents: Mapping[str, SparseVector], scifact: SciFact) -> SeismicIndex:
    path = folder / "docs.jsonl"
    line = formats.FORMATS["seismic"]
    with path.open("w", encoding="utf-8") as file:
        file.writelines(line(name, vector, scifact.vocabulary) + "\n" for name, vector in documents.items())
    return SeismicIndex.build(str(path))


@pytest.fixture(scope="module")
def index(scifact: SciFact, tmp_path_factory: pytest.TempPathFactory) -> SeismicIndex:
    return build(tmp_path_factory.mktemp("seismic"), scifact.documents, scifact)


def search(
    index: SeismicIndex, scifact: SciFact, query: SparseVector, query_cut: int, heap_factor: float
) -> list[tuple[str, float]]:
    weights = formats.seismic(query, scifact.vocabulary)
    found = index.search(
        query_id="q",
        query_components=np.array(list(weights), dtype=get_seismic_string()),
        query_values=np.array(list(weights.values()), dtype=np.float32),
        k=TOP,
        query_cut=query_cut,
        heap_factor=heap_factor,
    )
    return [(name, score) for _, score, name in found]


def round_to_float16(vector: SparseVector) -> SparseVector:
    return SparseVector(vector.indices, vector.values.astype(np.float16))


def test_page_runs(tmp_path: Path) -> None:
    run_page("seismic", tmp_path)


def test_scifact_top_10_is_exact_except_for_rounding_to_float16(scifact: SciFact, index: SeismicIndex) -> None:
    found = {name: search(index, scifact, query, 1000, 0.0) for name, query in scifact.queries.items()}
    stored = list(map(round_to_float16, scifact.documents.values()))
    assert_same_top(found, scifact, exact_scores(scifact.queries.values(), stored, len(scifact.vocabulary)))
    in_float32 = scifact.exact_scores()
    assert 0.998 < shared_top(found, scifact, in_float32) < 1
    document_ids = list(scifact.documents)
    for ranking, row in zip(found.values(), in_float32, strict=True):
        exact = [row[document_ids.index(name)] for name, _ in ranking]
        np.testing.assert_allclose([score for _, score in ranking], exact, rtol=4e-4)


def test_approximate_settings_find_most_of_the_top_10(scifact: SciFact, index: SeismicIndex) -> None:
    found = {name: search(index, scifact, query, 10, 0.8) for name, query in scifact.queries.items()}
    assert shared_top(found, scifact, scifact.exact_scores()) == pytest.approx(0.987, abs=0.01)


def test_an_empty_vector_is_stored_and_not_found(scifact: SciFact, tmp_path: Path) -> None:
    index = build(tmp_path, {"full": SparseVector([1], [1.0]), "empty": SparseVector([], [])}, scifact)
    assert index.len == 2
    assert search(index, scifact, SparseVector([1], [2.0]), 10, 0.0) == [("full", 2.0)]


def test_longest_token() -> None:
    assert get_seismic_string() == f"U{LONGEST_SEISMIC_TOKEN}"
