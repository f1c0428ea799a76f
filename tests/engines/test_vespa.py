from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from vespa.application import Vespa as Client

from spladerunner import SparseVector, formats
from spladerunner.vocabulary import Vocabulary
from tests.engines.scifact import TOP, SciFact, assert_same_top
from tests.engines.stand_ins import RefusedError, Vespa, serving


@pytest.fixture
def address() -> Iterator[str]:
    class Server(Vespa):
        pass

    with serving(Server) as address:
        yield address


def test_the_page_runs_as_it_stands(run_page, address: str) -> None:
    run_page("vespa", ("http://localhost:8080", address))


def test_what_is_put_comes_out_in_the_order_of_dot_products(scifact: SciFact, address: str) -> None:
    few = SciFact(
        scifact.vocabulary,
        dict(list(scifact.documents.items())[:500]),
        dict(list(scifact.queries.items())[::20]),
    )
    found = {}
    with Client(url=address).syncio() as session:
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


def test_tokens_that_are_keys_of_vespa_are_labels() -> None:
    vocabulary = Vocabulary(["blocks", "cells", "values", "type"], [])
    tensor = formats.vespa(SparseVector([0, 1, 2, 3], [4, 3, 2, 1]), vocabulary)
    assert Vespa.tensor(tensor) == {"blocks": 4.0, "cells": 3.0, "values": 2.0, "type": 1.0}
    with pytest.raises(RefusedError, match="blocks"):
        Vespa.tensor({"blocks": 4.0, "cells": 3.0})
