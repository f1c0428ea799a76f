"""SciFact encoded by the embedded pair, its exact scores, and comparisons of rankings with them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from spladerunner import Expander, SparseVector, formats
from spladerunner.model.manifest import RoleName
from spladerunner.vocabulary import Vocabulary

TOP = 10

Ranking = Sequence[tuple[str, float]]
"""(document id, score) for one query, best first."""


@dataclass(frozen=True)
class SciFact:
    """Vectors by id in the order of the collection: 5,183 documents, and the 300 queries of the test split."""

    vocabulary: Vocabulary
    documents: Mapping[str, SparseVector]
    queries: Mapping[str, SparseVector]

    @classmethod
    def encode(cls, folder: Path, expander: Expander, cache: Path) -> SciFact:
        """Encodes the collection, or reads its vectors from the folder `cache`."""
        with (folder / "qrels" / "test.tsv").open(encoding="utf-8") as file:
            judged = {row["query-id"] for row in csv.DictReader(file, delimiter="\t")}
        documents = {row["_id"]: f"{row['title']} {row['text']}" for row in _json_lines(folder / "corpus.jsonl")}
        queries = {row["_id"]: row["text"] for row in _json_lines(folder / "queries.jsonl") if row["_id"] in judged}

        def vectors(role: RoleName, texts: Mapping[str, str]) -> dict[str, SparseVector]:
            stored = cache / f"{role}.npz"
            if not stored.exists():
                matrix = formats.csr(expander.stream(texts.values(), role=role), len(expander.vocabulary))
                scipy.sparse.save_npz(stored, matrix)
            return dict(zip(texts, formats.from_csr(scipy.sparse.load_npz(stored)), strict=True))

        return cls(expander.vocabulary, vectors("doc", documents), vectors("query", queries))

    def exact_scores(self) -> NDArray[np.float64]:
        """Dot products in float64, (queries, documents)."""
        return exact_scores(self.queries.values(), self.documents.values(), len(self.vocabulary))


def exact_scores(
    queries: Iterable[SparseVector], documents: Iterable[SparseVector], vocabulary_size: int
) -> NDArray[np.float64]:
    """Dot products in float64, (queries, documents)."""
    left, right = (formats.csr(vectors, vocabulary_size).astype(np.float64) for vectors in (queries, documents))
    scores: NDArray[np.float64] = (left @ right.T).toarray()
    return scores


def assert_same_top(
    found: Mapping[str, Ranking], collection: SciFact, scores: NDArray[np.float64], relative: float = 1e-5
) -> None:
    """Asserts that the top 10 of every query and their scores equal the exact ones; ties may change places."""
    assert list(found) == list(collection.queries)
    document_ids = list(collection.documents)
    for (query_id, ranking), row in zip(found.items(), scores, strict=True):
        assert len({document_id for document_id, _ in ranking}) == len(ranking) == TOP, query_id
        exact = dict(zip(document_ids, row.tolist(), strict=True))
        best = np.sort(row)[::-1][:TOP]
        np.testing.assert_allclose([score for _, score in ranking], best, rtol=relative, err_msg=query_id)
        np.testing.assert_allclose([exact[name] for name, _ in ranking], best, rtol=relative, err_msg=query_id)


def shared_top(found: Mapping[str, Ranking], collection: SciFact, scores: NDArray[np.float64]) -> float:
    """Mean share of the exact top 10 that was found, over all queries."""
    document_ids = np.array(list(collection.documents))
    parts = [
        len({name for name, _ in ranking[:TOP]} & set(document_ids[np.argsort(-row, kind="stable")[:TOP]])) / TOP
        for ranking, row in zip(found.values(), scores, strict=True)
    ]
    return float(np.mean(parts))


def _json_lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(map(json.loads, file))
