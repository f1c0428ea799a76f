from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from opensearchpy import OpenSearch, RankFeatures, RequestError, helpers
from opensearchpy.helpers import query

from spladerunner import formats
from tests.engines.scifact import TOP, SciFact, assert_same_top
from tests.engines.stand_ins import Lucene, serving
from tests.engines.test_elasticsearch import rounded_scores


@pytest.fixture
def address() -> Iterator[str]:
    class Server(Lucene):
        pass

    with serving(Server) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[OpenSearch]:
    client = OpenSearch(address)
    client.indices.create(index="docs", body={"mappings": {"properties": {"vector": RankFeatures().to_dict()}}})
    yield client
    client.close()


def test_the_page_runs_as_it_stands(run_page, address: str) -> None:
    run_page("opensearch", ("http://localhost:9200", address))


@pytest.mark.parametrize("ask", [formats.opensearch_query, formats.rank_features_query])
def test_scifacts_top_10_is_exact_but_for_nine_significant_bits(ask, scifact: SciFact, client: OpenSearch) -> None:
    line = formats.FORMATS["opensearch"]
    actions = (json.loads(line(name, vector, scifact.vocabulary)) for name, vector in scifact.documents.items())
    assert helpers.bulk(client, actions, index="docs") == (len(scifact.documents), [])
    few = SciFact(scifact.vocabulary, scifact.documents, dict(list(scifact.queries.items())[::20]))
    found = {}
    for name, vector in few.queries.items():
        body = {"size": TOP, "query": ask(vector, few.vocabulary, "vector")}
        hits = client.search(index="docs", body=body)["hits"]["hits"]
        found[name] = [(hit["_id"], hit["_score"]) for hit in hits]
    assert_same_top(found, few, rounded_scores(few))


def test_rank_feature_clauses_are_what_the_clients_own_types_take(scifact: SciFact) -> None:
    vector = next(iter(scifact.queries.values()))
    asked = query.Q(formats.rank_features_query(vector, scifact.vocabulary, "vector"))
    assert isinstance(asked, query.Bool) and all(isinstance(clause, query.RankFeature) for clause in asked.should)


@pytest.mark.parametrize("weight", [0.0, -1.0, 1e-40])
def test_what_formats_never_write_is_refused(weight: float, client: OpenSearch) -> None:
    with pytest.raises(RequestError, match="positive normal float"):
        helpers.bulk(client, [{"_id": "refused", "vector": {"a": weight}}], index="docs")
