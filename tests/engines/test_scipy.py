from __future__ import annotations

from pathlib import Path

import numpy as np

from spladerunner import formats
from tests.engines.pages import run_page
from tests.engines.scifact import TOP, SciFact, assert_same_top


def test_page_runs(tmp_path: Path) -> None:
    run_page("scipy", tmp_path)


def test_scifact_top_10_equals_that_of_single_dot_products(scifact: SciFact) -> None:
    """Checks exact_scores, the reference of the other engines, against SparseVector.dot."""
    document_ids = list(scifact.documents)
    found = {}
    for query_id, query in list(scifact.queries.items())[:20]:
        scores = np.array([query.dot(document) for document in scifact.documents.values()])
        found[query_id] = [(document_ids[at], scores[at]) for at in np.argsort(-scores, kind="stable")[:TOP]]
    few = SciFact(scifact.vocabulary, scifact.documents, {name: scifact.queries[name] for name in found})
    matrices = [formats.csr(vectors.values(), len(scifact.vocabulary)) for vectors in (few.queries, few.documents)]
    assert_same_top(found, few, (matrices[0] @ matrices[1].T).toarray())
    assert_same_top(found, few, few.exact_scores(), relative=1e-12)
