"""nDCG@10 of the embedded pair and of BM25 on judged collections, as `spladerunner eval` prints it.

    spladerunner eval scifact cranfield -o RESULTS
    python -m benchmarks.quality RESULTS

Writes quality.json, with which tests compare every place that states such a figure, and prints the table. torch_scores
has the pair's float32 checkpoints in torch; a test compares them with the bundle.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import markdown_table
from spladerunner import SparseVector
from spladerunner.atomic_file import write_atomically
from spladerunner.evaluation.collection import Collection
from spladerunner.evaluation.measures import MAIN, Scores, measure
from spladerunner.evaluation.search import ExactSearch
from spladerunner.models import EMBEDDED
from spladerunner.vocabulary import Vocabulary

COLLECTIONS = ("scifact", "cranfield")
ROWS = {"embedded pair, int8": EMBEDDED, "BM25": "BM25"}
STATED = Path(__file__).with_name("quality.json")
MAX_LENGTH = 256


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
    """Writes quality.json from what eval wrote, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", metavar="RESULTS", type=Path)
    arguments = parser.parse_args()
    stated: dict[str, dict[str, object]] = {}
    for name in COLLECTIONS:
        record = json.loads((arguments.results / name / "result.json").read_text(encoding="utf-8"))
        means = {system["name"]: round(system["measures"][MAIN], 6) for system in record["systems"]}
        stated[name] = {"measure": f"{MAIN}, the grade as gain", **means, "versions": record["versions"]}
    write_atomically(STATED, json.dumps(stated, indent=1) + "\n")
    rows = [[row, *(f"{stated[name][system]:.3f}" for name in COLLECTIONS)] for row, system in ROWS.items()]
    print(markdown_table(["nDCG@10", *COLLECTIONS], rows))


if __name__ == "__main__":
    main()
