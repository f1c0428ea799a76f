"""A smaller decoder: its speed, its quality, and the weight that it loses on texts it was not made from.

    python -m benchmarks.vocabulary SHARED FOLDER

The embedded pair encodes the first half of SciFact's documents, and is exported again with the vocabulary entries that
they make positive. Both bundles then encode documents of the other half in turn, and answer the judged queries.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.harness import ROUNDS, argument_parser, in_rounds, machine, markdown_table, save_result, seconds, spread
from spladerunner import Expander, SparseVector
from spladerunner.bulk import encode
from spladerunner.evaluation.collection import Collection
from spladerunner.evaluation.measures import MAIN
from spladerunner.evaluation.systems import evaluate_model
from spladerunner.export import ExportOptions, export_bundle
from spladerunner.inference.encoder import GraphEncoder
from spladerunner.readers import Input

TEXTS = 200
"""Documents that are encoded in each round."""

WHOLE, SMALLER = "whole", "entries of half the documents"


def entries_of(expander: Expander) -> int:
    """The vocabulary entries that the document graph weighs."""
    encoder = expander._encoder("doc")
    assert isinstance(encoder, GraphEncoder)
    return int(encoder.entries.size)


def export_smaller(documents: Sequence[str], checkpoints: Path, folder: Path) -> Path:
    """A bundle of the embedded pair, of the vocabulary entries that these documents make positive.

    checkpoints: with the folders doc and query.
    """
    corpus, vectors = folder / "corpus.txt", folder / "vectors.jsonl"
    corpus.write_text("".join(f"{' '.join(text.split())}\n" for text in documents), encoding="utf-8")
    encode(Expander(), [Input(str(corpus))], vectors)
    options = ExportOptions(
        checkpoints / "doc", folder / "smaller", query=checkpoints / "query", vocabulary=vectors, license="Apache-2.0"
    )
    return export_bundle(options)


def share_lost(whole: Sequence[SparseVector], smaller: Sequence[SparseVector]) -> float:
    """The share of the weight in `whole` that is at tokens which `smaller` lacks, text by text.

    >>> share_lost([SparseVector([1, 2], [3, 1])], [SparseVector([1], [2.9])])
    0.25
    """
    lost = sum(
        float(full.values[~np.isin(full.indices, part.indices)].sum())
        for full, part in zip(whole, smaller, strict=True)
    )
    return lost / sum(float(full.values.sum()) for full in whole)


def measure(collection: Collection, smaller: Path) -> dict[str, dict[str, Any]]:
    """Figures of both bundles: entries, weights a document, nDCG@10, the share lost, and documents a second."""
    expanders = {WHOLE: Expander(), SMALLER: Expander(smaller)}
    documents = list(collection.documents.values())
    unseen = documents[len(documents) // 2 :]
    vectors = {name: expander.encode(unseen) for name, expander in expanders.items()}  # and warms up
    timed = in_rounds(
        {name: partial(seconds, partial(each.encode, unseen[:TEXTS])) for name, each in expanders.items()}, ROUNDS
    )
    return {
        name: {
            "entries": entries_of(expander),
            "weights": float(np.mean([len(vector) for vector in vectors[name]])),
            "ndcg": evaluate_model(collection, expander)[0].mean(MAIN),
            "lost": share_lost(vectors[WHOLE], vectors[name]),
            "docs_per_second": [TEXTS / taken for taken in timed[name]],
        }
        for name, expander in expanders.items()
    }


def report(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for each bundle. Weights and losses are of the documents that the vocabulary was not chosen by."""
    first = median(found[WHOLE]["docs_per_second"])
    rows = [
        [
            name,
            f"{figures['entries']:,}",
            f"{figures['weights']:.0f}",
            f"{figures['lost']:.2%}" if figures["lost"] else "none",
            f"{figures['ndcg']:.3f}",
            f"{median(figures['docs_per_second']) / first:.2f}",
            f"{spread(figures['docs_per_second']):.0%}",
        ]
        for name, figures in ((name, found[name]) for name in (WHOLE, SMALLER))
    ]
    head = ["decoder", "entries", "weights a document", "weight lost", "nDCG@10", "speed, of the whole", "spread"]
    return markdown_table(head, rows)


def main() -> None:
    """Measures, saves the result and prints the table."""
    arguments = argument_parser(__doc__).parse_args()
    collection = Collection.read(arguments.shared / "data" / "scifact")
    documents = list(collection.documents.values())
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        half = documents[: len(documents) // 2]
        found = measure(collection, export_smaller(half, arguments.shared / "tiny-en", Path(scratch)))
    save_result("vocabulary", found)
    print(f"{machine()}\n\n{report(found)}")


if __name__ == "__main__":
    main()
