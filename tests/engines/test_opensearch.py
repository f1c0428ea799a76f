from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from opensearchpy import OpenSearch, RankFeatures, RequestError, helpers
from opensearchpy.helpers import query

from spladerunner import formats
from tests.engines.fake_servers import FakeLucene, serving
from tests.engines.pages import run_page
from tests.engines.scifact import TOP, SciFact, assert_same_top
from tests.engines.test_elasticsearch import QueryBuilder, rounded_scores


@pytest.fixture
def address() -> Iterator[str]:
    class Server(FakeLucene):
        pass

    with serving(Server) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[OpenSearch]:
    client = OpenSearch(address)
    client.indices.create(index="docs", body={"mappings": {"properties": {"vector": RankFeatures().to_dict()}}})
    yield client
    client.close()


def test_page_runs(tmp_path: Path, address: str) -> None:
    run_page("opensearch", tmp_path, ("http://localhost:9200", address))


@pytest.mark.parametrize("build_query", [formats.opensearch_query, formats.rank_features_query])
def test_scifact_top_10_is_exact_except_for_rounding_to_nine_bits(
    build_query: QueryBuilder, scifact: SciFact, client: OpenSearch
) -> None:
    line = formats.FORMATS["opensearch"]
    actions = (json.loads(line(name, vector, scifact.vocabulary)) for name, vector in scifact.documents.items())
    assert helpers.bulk(client, actions, index="docs") == (len(scifact.documents), [])
    few = SciFact(scifact.vocabulary, scifact.documents, dict(list(scifact.queries.items())[::20]))
    found = {}
    for name, vector in few.queries.items():
        body = {"size": TOP, "query": build_query(vector, few.vocabulary, "vector")}
        hits = client.search(index="docs", body=body)["hits"]["hits"]
        found[name] = [(hit["_id"], hit["_score"]) for hit in hits]
    assert_same_top(found, few, rounded_scores(few))


def test_the_client_parses_rank_feature_queries(scifact: SciFact) -> None:
    vector = next(iter(scifact.queries.values()))
    asked = query.Q(formats.rank_features_query(vector, scifact.vocabulary, "vector"))
    assert isinstance(asked, query.Bool) and all(isinstance(clause, query.RankFeature) for clause in asked.should)


@pytest.mark.parametrize("weight", [0.0, -1.0, 1e-40])
def test_weights_that_are_not_positive_normal_floats_are_refused(weight: float, client: OpenSearch) -> None:
    with pytest.raises(RequestError, match="positive normal float"):
        helpers.bulk(client, [{"_id": "refused", "vector": {"a": weight}}], index="docs")
