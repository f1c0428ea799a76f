"""nDCG@10 of the embedded pair on judged collections: int8 bundle, torch float32 checkpoints, and BM25.

    python -m benchmarks.quality DATA CHECKPOINTS

DATA has a folder for each collection in BEIR's layout; CHECKPOINTS has doc/ and query/. models/README.md shows the
table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import markdown_table
from spladerunner import Expander, SparseVector
from spladerunner.evaluation.collection import Collection
from spladerunner.evaluation.measures import EXPONENTIAL, MAIN, Scores, measure
from spladerunner.evaluation.search import ExactSearch
from spladerunner.evaluation.systems import evaluate_bm25, evaluate_model
from spladerunner.vocabulary import Vocabulary

COLLECTIONS = ("scifact", "cranfield")
MAX_LENGTH = 256


def quality(collection: Collection, expander: Expander, checkpoints: Path) -> dict[str, float]:
    """Mean nDCG@10 on a collection, by row of the table."""
    (int8,) = evaluate_model(collection, expander)
    bm25, _ = evaluate_bm25(collection)
    return {
        "int8 bundle (what ships)": ndcg(int8.scores),
        "float32 checkpoints (torch)": ndcg(torch_scores(collection, checkpoints, expander.vocabulary)),
        "BM25": ndcg(bm25.scores),
    }


def ndcg(scores: Scores) -> float:
    """Mean nDCG@10 with gains of 2^grade - 1, which equal the grades where those are 0 and 1."""
    return float(scores.get(EXPONENTIAL, scores[MAIN]).mean())


def torch_scores(collection: Collection, checkpoints: Path, vocabulary: Vocabulary) -> Scores:
    """Scores of each query with the published formula in torch, float32, without the runtime."""
    queries = torch_vectors(checkpoints / "query", list(collection.queries.values()))
    search = ExactSearch(queries, list(collection.documents), vocabulary)
    search.add(torch_vectors(checkpoints / "doc", list(collection.documents.values())), vocabulary)
    return measure(collection.judgments, list(collection.documents), search.rankings)


def torch_vectors(checkpoint: Path, texts: Sequence[str], batch_size: int = 8) -> list[SparseVector]:
    """log(1 + relu(max over unmasked positions)) in torch, in batches of texts of similar length."""
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


def main() -> None:
    """Measures every collection and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("checkpoints", metavar="CHECKPOINTS", type=Path)
    arguments = parser.parse_args()
    expander = Expander()
    columns = [quality(Collection.read(arguments.data / name), expander, arguments.checkpoints) for name in COLLECTIONS]
    rows = [[name, *(f"{column[name]:.3f}" for column in columns)] for name in columns[0]]
    print(markdown_table(["nDCG@10", *COLLECTIONS], rows))


if __name__ == "__main__":
    main()
