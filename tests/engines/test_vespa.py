from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from vespa.application import Vespa

from spladerunner import SparseVector, formats
from spladerunner.vocabulary import Vocabulary
from tests.engines.fake_servers import FakeVespa, RefusedError, serving
from tests.engines.pages import run_page
from tests.engines.scifact import TOP, SciFact, assert_same_top


@pytest.fixture
def address() -> Iterator[str]:
    class Server(FakeVespa):
        pass

    with serving(Server) as address:
        yield address


def test_page_runs(tmp_path: Path, address: str) -> None:
    run_page("vespa", tmp_path, ("http://localhost:8080", address))


def test_documents_are_ranked_by_dot_product(scifact: SciFact, address: str) -> None:
    few = SciFact(
        scifact.vocabulary,
        dict(list(scifact.documents.items())[:500]),
        dict(list(scifact.queries.items())[::20]),
    )
    found = {}
    with Vespa(url=address).syncio() as session:
        for name, vector in few.documents.items():
            put = json.loads(formats.FORMATS["vespa"](name, vector, few.vocabulary))
            assert put["put"] == f"id:splade:doc::{name}"
            response = session.feed_data_point(schema="doc", namespace="splade", data_id=name, fields=put["fields"])
            assert response.is_successful() and response.json["id"] == put["put"]
        for name, query in few.queries.items():
            asked = {"yql": "select id from doc where true", "ranking": "splade", "hits": TOP}
            response = session.query(body={**asked, "input.query(q)": formats.vespa(query, few.vocabulary)})
            found[name] = [(hit["fields"]["id"], hit["relevance"]) for hit in response.hits]
    assert_same_top(found, few, few.exact_scores())


def test_tokens_equal_to_keys_of_vespa_are_read_as_labels() -> None:
    vocabulary = Vocabulary(["blocks", "cells", "values", "type"], [])
    tensor = formats.vespa(SparseVector([0, 1, 2, 3], [4, 3, 2, 1]), vocabulary)
    assert FakeVespa.tensor(tensor) == {"blocks": 4.0, "cells": 3.0, "values": 2.0, "type": 1.0}
    with pytest.raises(RefusedError, match="blocks"):
        FakeVespa.tensor({"blocks": 4.0, "cells": 3.0})
