from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymilvus import DataType, MilvusClient, MilvusException

from spladerunner import SparseVector, formats
from tests.engines.pages import run_loader, run_page
from tests.engines.scifact import TOP, SciFact, assert_same_top


@pytest.fixture
def client(tmp_path: Path) -> Iterator[MilvusClient]:
    client = MilvusClient(str(tmp_path / "milvus.db"))
    schema = client.create_schema()
    schema.add_field("id", DataType.VARCHAR, max_length=512, is_primary=True)
    schema.add_field("vector", DataType.SPARSE_FLOAT_VECTOR)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
    client.create_collection("docs", schema=schema, index_params=index)
    yield client
    client.close()


def search(client: MilvusClient, *queries: SparseVector) -> list[list[tuple[str, float]]]:
    found = client.search("docs", data=list(map(formats.milvus_query, queries)), anns_field="vector", limit=TOP)
    return [[(hit["id"], hit["distance"]) for hit in hits] for hits in found]


def test_page_runs(tmp_path: Path) -> None:
    run_page("milvus", tmp_path)


def test_the_page_loads_parts(tmp_path: Path, client: MilvusClient, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run_loader("milvus", tmp_path, {"client": client, "formats": formats}, monkeypatch)
    stored = client.query("docs", filter="id != ''", output_fields=["vector"])
    assert {row["id"]: formats.from_milvus(row["vector"]) for row in stored} == expected


def test_scifact_top_10_is_exact(scifact: SciFact, client: MilvusClient) -> None:
    line = formats.FORMATS["milvus"]
    rows = [json.loads(line(name, vector, scifact.vocabulary)) for name, vector in scifact.documents.items()]
    client.insert("docs", rows)
    found = dict(zip(scifact.queries, search(client, *scifact.queries.values()), strict=True))
    assert_same_top(found, scifact, scifact.exact_scores())


def test_milvus_refuses_an_empty_row_but_stores_our_row_for_an_empty_vector(
    scifact: SciFact, client: MilvusClient
) -> None:
    with pytest.raises(MilvusException, match="at least one nonzero"):
        client.insert("docs", [{"id": "empty", "vector": {}}])
    line = formats.FORMATS["milvus"]
    for name, vector in [("empty", SparseVector([], [])), ("full", SparseVector([1, 7], [1.0, 0.1]))]:
        client.insert("docs", [json.loads(line(name, vector, scifact.vocabulary))])
    assert search(client, SparseVector([1], [2.0]), SparseVector([], [])) == [[("full", 2.0)], []]
    stored = {row["id"]: row["vector"] for row in client.query("docs", filter="id != ''", output_fields=["vector"])}
    assert formats.from_milvus(stored["empty"]) == SparseVector([], [])
    assert formats.from_milvus(stored["full"]) == SparseVector([1, 7], [1.0, 0.1])


def test_negative_weights_are_refused(client: MilvusClient) -> None:
    with pytest.raises(MilvusException, match="non-negative"):
        client.insert("docs", [{"id": "negative", "vector": {1: -1.0}}])
