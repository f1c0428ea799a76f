"""nDCG@10 of the embedded pair on judged collections: int8 bundle, torch float32 checkpoints, and BM25.

    python benchmarks/quality.py DATA CHECKPOINTS

DATA holds a folder for each collection, in BEIR's layout; CHECKPOINTS holds doc/ and query/. Prints the table that
models/README.md shows.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from spladerunner import Expander, SparseVector

COLLECTIONS = ("scifact", "cranfield")
MAX_LENGTH = 256
DEPTH = 100


@dataclass(frozen=True)
class Collection:
    """Documents (title and text), the judged queries, and the judgements {query: {document: grade}}."""

    documents: dict[str, str]
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]

    @classmethod
    def read(cls, folder: Path) -> Collection:
        """Reads BEIR's layout; queries without a judgement in the test split are left out."""
        judgements: dict[str, dict[str, int]] = {}
        with (folder / "qrels" / "test.tsv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                judgements.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
        documents = {
            row["_id"]: f"{row['title']} {row['text']}".strip() for row in _json_lines(folder / "corpus.jsonl")
        }
        queries = {row["_id"]: row["text"] for row in _json_lines(folder / "queries.jsonl") if row["_id"] in judgements}
        return cls(documents, queries, judgements)


def ndcg_at_10(collection: Collection, scores: NDArray[np.floating]) -> float:
    """Mean nDCG@10 with gains of 2^grade - 1, by ir_measures. scores: (queries, documents), in collection order."""
    import ir_measures

    measure = ir_measures.nDCG(dcg="exp-log2") @ 10

    document_ids = list(collection.documents)
    run = {
        query_id: {document_ids[at]: float(row[at]) for at in np.argsort(-row, kind="stable")[:DEPTH]}
        for query_id, row in zip(collection.queries, scores, strict=True)
    }
    figure: float = ir_measures.calc_aggregate([measure], collection.judgements, run)[measure]
    return figure


def dot_products(
    queries: Iterable[SparseVector], documents: Iterable[SparseVector], vocabulary_size: int
) -> NDArray[np.float32]:
    """Exact scores, (queries, documents)."""
    product = _matrix(queries, vocabulary_size) @ _matrix(documents, vocabulary_size).T
    scores: NDArray[np.float32] = product.toarray()
    return scores


def expander_scores(collection: Collection, expander: Expander, vocabulary_size: int) -> NDArray[np.float32]:
    """Scores with spladerunner."""
    return dot_products(
        expander.stream(collection.queries.values(), role="query"),
        expander.stream(collection.documents.values()),
        vocabulary_size,
    )


def torch_scores(collection: Collection, checkpoints: Path, vocabulary_size: int) -> NDArray[np.float32]:
    """Scores with the published formula in torch and transformers, float32, and nothing of spladerunner's runtime."""
    return dot_products(
        torch_vectors(checkpoints / "query", list(collection.queries.values())),
        torch_vectors(checkpoints / "doc", list(collection.documents.values())),
        vocabulary_size,
    )


def torch_vectors(checkpoint: Path, texts: Sequence[str], batch_size: int = 8) -> list[SparseVector]:
    """log(1 + relu(max over unmasked positions)) in torch; batches are of similar length, for speed."""
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForMaskedLM.from_pretrained(checkpoint).eval()
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    vectors: dict[int, SparseVector] = {}
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            tokens = tokenizer(
                [texts[at] for at in batch], truncation=True, max_length=MAX_LENGTH, padding=True, return_tensors="pt"
            )
            logits = model(**tokens).logits
            logits.masked_fill_(tokens["attention_mask"].unsqueeze(-1) == 0, -torch.inf)
            weights = torch.log1p(torch.relu(logits.amax(dim=1))).numpy()
            for at, row in zip(batch, weights, strict=True):
                indices = np.flatnonzero(row)
                vectors[at] = SparseVector(indices, row[indices])
    return [vectors[at] for at in range(len(texts))]


def bm25_scores(collection: Collection) -> NDArray[np.float32]:
    """BM25 by bm25s: k1 0.9, b 0.4, Snowball stemming, English stop words."""
    import bm25s
    import Stemmer

    def words(texts: Iterable[str]) -> list[list[str]]:
        tokens: list[list[str]] = bm25s.tokenize(
            list(texts), stopwords="en", stemmer=Stemmer.Stemmer("english"), return_ids=False, show_progress=False
        )
        return tokens

    index = bm25s.BM25(k1=0.9, b=0.4)
    index.index(words(collection.documents.values()), show_progress=False)
    return np.stack([index.get_scores(query) for query in words(collection.queries.values())])


def _matrix(vectors: Iterable[SparseVector], vocabulary_size: int) -> scipy.sparse.csr_array:
    kept = list(vectors)
    pointers = np.cumsum([0, *map(len, kept)])
    return scipy.sparse.csr_array(
        (np.concatenate([v.values for v in kept]), np.concatenate([v.indices for v in kept]), pointers),
        shape=(len(kept), vocabulary_size),
    )


def _json_lines(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def main() -> None:
    """Measures every collection and prints the table."""
    data, checkpoints = map(Path, sys.argv[1:])
    expander = Expander()
    size = 20480
    rows: dict[str, list[float]] = {"int8 bundle (what ships)": [], "float32 checkpoints (torch)": [], "BM25": []}
    for name in COLLECTIONS:
        collection = Collection.read(data / name)
        for row, scores in zip(
            rows.values(),
            (
                expander_scores(collection, expander, size),
                torch_scores(collection, checkpoints, size),
                bm25_scores(collection),
            ),
            strict=True,
        ):
            row.append(ndcg_at_10(collection, scores))
    print("| nDCG@10 | " + " | ".join(COLLECTIONS) + " |\n|---|" + "---|" * len(COLLECTIONS))
    for name, figures in rows.items():
        print(f"| {name} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |")


if __name__ == "__main__":
    main()
