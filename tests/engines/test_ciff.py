from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ciff_toolkit.read import CiffReader

from spladerunner import formats
from tests.engines.pages import run_page
from tests.engines.scifact import TOP, SciFact, exact_scores, shared_top


def test_page_runs(tmp_path: Path) -> None:
    run_page("ciff", tmp_path)


def test_ciff_toolkit_reads_the_impacts_of_scifact(scifact: SciFact, tmp_path: Path) -> None:
    path = tmp_path / "scifact.ciff"
    scale = formats.impact_scale(scifact.documents.values(), bits=8)
    formats.write_ciff(path, scifact.documents.items(), scifact.vocabulary, scale)
    expected = {name: formats.impacts(vector, scale) for name, vector in scifact.documents.items()}

    found = np.zeros((len(expected), len(scifact.vocabulary)), dtype=np.int32)
    terms = []
    with CiffReader(path) as reader:
        header = reader.read_header()
        for listed in reader.read_postings_lists():
            numbers = np.cumsum([posting.docid for posting in listed.postings])
            column = scifact.vocabulary.position(listed.term)
            found[numbers, column] = [posting.tf for posting in listed.postings]
            assert (listed.df, listed.cf) == (len(numbers), found[:, column].sum())
            terms.append(listed.term)
        records = list(reader.read_documents())
    assert path.stat().st_size == pytest.approx(7.0e6, rel=0.01)
    assert terms == sorted(terms, key=str.encode)
    assert (header.num_postings_lists, header.num_docs) == (len(terms), len(expected))
    assert header.total_terms_in_collection == found.sum() and found.max() == 255
    assert header.average_doclength == pytest.approx(found.sum(axis=1).mean())
    assert [record.collection_docid for record in records] == list(expected)
    for record, row, quantized in zip(records, found, expected.values(), strict=True):
        assert np.array_equal(np.flatnonzero(row), quantized.indices)
        assert np.array_equal(row[quantized.indices], quantized.impacts)
        assert record.doclength == row.sum()

    assert formats.read_ciff(path, scifact.vocabulary) == [
        (name, formats.from_impacts(quantized)) for name, quantized in expected.items()
    ]


def test_loss_by_rounding_to_eight_bits(scifact: SciFact) -> None:
    scale = formats.impact_scale(scifact.documents.values(), bits=8)
    queries = [formats.from_impacts(formats.impacts(query)) for query in scifact.queries.values()]
    documents = [formats.from_impacts(formats.impacts(document, scale)) for document in scifact.documents.values()]
    scores = exact_scores(queries, documents, len(scifact.vocabulary))
    names = list(scifact.documents)
    found = {
        name: [(names[at], row[at]) for at in np.argsort(-row, kind="stable")[:TOP]]
        for name, row in zip(scifact.queries, scores, strict=True)
    }
    assert shared_top(found, scifact, scifact.exact_scores()) == pytest.approx(0.996, abs=0.002)
