from __future__ import annotations

import json
from pathlib import Path

import pytest
from qdrant_client import QdrantClient, models

from spladerunner import SparseVector, formats
from tests.engines.pages import run_loader, run_page
from tests.engines.scifact import TOP, SciFact, assert_same_top


@pytest.fixture
def client() -> QdrantClient:
    client = QdrantClient(":memory:")
    client.create_collection("docs", vectors_config={}, sparse_vectors_config={"splade": models.SparseVectorParams()})
    return client


def search(client: QdrantClient, query: SparseVector) -> list[tuple[str, float]]:
    vector = models.SparseVector(**formats.qdrant(query))
    found = client.query_points("docs", query=vector, using="splade", limit=TOP)
    return [(point.payload["id"], point.score) for point in found.points]


def test_page_runs(tmp_path: Path) -> None:
    run_page("qdrant", tmp_path)


def test_the_page_loads_parts(tmp_path: Path, client: QdrantClient, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"client": client, "models": models, "formats": formats}
    expected = run_loader("qdrant", tmp_path, names, monkeypatch)
    points, _ = client.scroll("docs", limit=100, with_vectors=True)
    stored = {point.payload["id"]: point.vector["splade"] for point in points}
    assert {name: SparseVector(vector.indices, vector.values) for name, vector in stored.items()} == expected


def test_scifact_top_10_is_exact(scifact: SciFact, client: QdrantClient) -> None:
    line = formats.FORMATS["qdrant"]
    points = [
        models.PointStruct(**json.loads(line(name, vector, scifact.vocabulary)))
        for name, vector in scifact.documents.items()
    ]
    client.upsert("docs", points)
    found = {name: search(client, query) for name, query in scifact.queries.items()}
    assert_same_top(found, scifact, scifact.exact_scores())


def test_an_empty_vector_is_stored_and_not_found(scifact: SciFact, client: QdrantClient) -> None:
    line = formats.FORMATS["qdrant"]("empty", SparseVector([], []), scifact.vocabulary)
    client.upsert("docs", [models.PointStruct(**json.loads(line))])
    assert client.count("docs").count == 1
    assert search(client, SparseVector([1], [1.0])) == []
    assert search(client, SparseVector([], [])) == []
