from __future__ import annotations

import numpy as np

from spladerunner import formats
from tests.engines.scifact import TOP, SciFact, assert_same_top


def test_the_page_runs_as_it_stands(run_page) -> None:
    run_page("scipy")


def test_scifacts_top_10_is_that_of_dot_products_one_by_one(scifact: SciFact) -> None:
    """The reference of the other engines, held to SparseVector.dot."""
    document_ids = list(scifact.documents)
    found = {}
    for query_id, query in list(scifact.queries.items())[:20]:
        scores = np.array([query.dot(document) for document in scifact.documents.values()])
        found[query_id] = [(document_ids[at], scores[at]) for at in np.argsort(-scores, kind="stable")[:TOP]]
    few = SciFact(scifact.vocabulary, scifact.documents, {name: scifact.queries[name] for name in found})
    matrices = [formats.csr(vectors.values(), len(scifact.vocabulary)) for vectors in (few.queries, few.documents)]
    assert_same_top(found, few, (matrices[0] @ matrices[1].T).toarray())
    assert_same_top(found, few, few.exact_scores(), relative=1e-12)
