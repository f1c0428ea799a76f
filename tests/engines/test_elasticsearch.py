from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from collections.abc import Mapping as MappingType
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elasticsearch import BadRequestError, Elasticsearch, helpers
from elasticsearch.dsl import Mapping, Q, query
from numpy.typing import NDArray

from spladerunner import SparseVector, formats
from spladerunner.vocabulary import Vocabulary
from tests.engines.fake_servers import FakeLucene, serving
from tests.engines.pages import run_page
from tests.engines.scifact import TOP, SciFact, assert_same_top, exact_scores, shared_top

QueryBuilder = Callable[[SparseVector, Vocabulary, str], dict[str, Any]]

QUERIES: dict[str, QueryBuilder] = {
    "sparse_vector": formats.elasticsearch_query,
    "rank_features": formats.rank_features_query,
}


@pytest.fixture
def address() -> Iterator[str]:
    class Server(FakeLucene):
        pass

    with serving(Server) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[Elasticsearch]:
    with Elasticsearch(address) as client:
        yield client


def create(client: Elasticsearch, kind: str) -> None:
    client.indices.create(index="docs", mappings=Mapping().field("vector", kind).to_dict())


def bulk(client: Elasticsearch, documents: MappingType[str, SparseVector], vocabulary: Vocabulary) -> None:
    line = formats.FORMATS["elasticsearch"]
    actions = (json.loads(line(name, vector, vocabulary)) for name, vector in documents.items())
    assert helpers.bulk(client, actions, index="docs") == (len(documents), [])


def test_page_runs(tmp_path: Path, address: str) -> None:
    run_page("elasticsearch", tmp_path, ("http://localhost:9200", address))


@pytest.mark.parametrize("kind", QUERIES)
def test_scifact_top_10_is_exact_except_for_rounding_to_nine_bits(
    kind: str, scifact: SciFact, client: Elasticsearch
) -> None:
    create(client, kind)
    bulk(client, scifact.documents, scifact.vocabulary)
    few = SciFact(scifact.vocabulary, scifact.documents, dict(list(scifact.queries.items())[::20]))
    found = {}
    for name, vector in few.queries.items():
        asked = QUERIES[kind](vector, few.vocabulary, "vector")
        hits = client.search(index="docs", query=asked, size=TOP)["hits"]["hits"]
        found[name] = [(hit["_id"], hit["_score"]) for hit in hits]
    assert_same_top(found, few, rounded_scores(few))


def rounded_scores(scifact: SciFact) -> NDArray[np.float64]:
    """Exact scores of documents whose weights keep nine significant bits, (queries, documents)."""
    rounded = []
    for vector in scifact.documents.values():
        fractions, exponents = np.frexp(vector.values)  # fractions in [0.5, 1)
        rounded.append(SparseVector(vector.indices, np.ldexp(np.floor(fractions * 2**9), exponents - 9)))
    return exact_scores(scifact.queries.values(), rounded, len(scifact.vocabulary))


def test_loss_by_rounding_to_nine_bits(scifact: SciFact) -> None:
    document_ids = list(scifact.documents)
    scores = rounded_scores(scifact)
    found = {
        name: [(document_ids[at], row[at]) for at in (-row).argsort(kind="stable")[:TOP]]
        for name, row in zip(scifact.queries, scores, strict=True)
    }
    exact = scifact.exact_scores()
    assert shared_top(found, scifact, exact) == pytest.approx(0.998, abs=0.001)
    assert ((exact - scores) <= exact * 2**-8).all() and ((exact - scores) >= -1e-9).all()


def test_the_client_parses_our_queries(scifact: SciFact) -> None:
    vector = next(iter(scifact.queries.values()))
    asked = Q(formats.elasticsearch_query(vector, scifact.vocabulary, "vector"))
    assert isinstance(asked, query.SparseVector) and asked.field == "vector"
    asked = Q(formats.rank_features_query(vector, scifact.vocabulary, "vector"))
    assert isinstance(asked, query.Bool) and len(asked.should) == len(vector)
    assert all(isinstance(clause, query.RankFeature) for clause in asked.should)


@pytest.mark.parametrize("kind", QUERIES)
def test_tokens_with_dots_are_found(kind: str, client: Elasticsearch) -> None:
    vocabulary = Vocabulary(["u.s", "%2E"], [])
    create(client, kind)
    bulk(client, {"a": SparseVector([0], [1.0]), "b": SparseVector([1], [2.0]), "c": SparseVector([], [])}, vocabulary)
    for at, expected in enumerate([("a", 1.0), ("b", 2.0)]):
        asked = QUERIES[kind](SparseVector([at], [1.0]), vocabulary, "vector")
        hits = client.search(index="docs", query=asked)["hits"]["hits"]
        assert [(hit["_id"], hit["_score"]) for hit in hits] == [expected]
    nothing = QUERIES[kind](SparseVector([], []), vocabulary, "vector")
    assert isinstance(Q(nothing), query.MatchNone)
    assert client.search(index="docs", query=nothing)["hits"]["hits"] == []


@pytest.mark.parametrize("refused", [{"u.s": 1.0}, {"a": 0.0}, {"a": -1.0}, {"a": 1e-40}])
def test_dots_and_weights_that_are_not_positive_normal_floats_are_refused(
    refused: dict[str, float], client: Elasticsearch
) -> None:
    create(client, "sparse_vector")
    with pytest.raises(BadRequestError, match=r"dots|positive normal float"):
        helpers.bulk(client, [{"_id": "refused", "vector": refused}], index="docs")
