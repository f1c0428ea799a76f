"""Smaller decoders: documents a second of bundles of one model, whole and with part of its vocabulary, in turn.

    spladerunner encode COLLECTION/corpus.jsonl -o vectors.jsonl --model WHOLE
    spladerunner export --doc CHECKPOINT -o SMALLER --vocabulary vectors.jsonl
    python -m benchmarks.vocabulary COLLECTION WHOLE SMALLER
    spladerunner eval COLLECTION --compare WHOLE SMALLER

The last command has the quality. The card of SMALLER has the share of weight that was lost on texts of other kinds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

from benchmarks.harness import ROUNDS, in_rounds, markdown_table, seconds, spread
from spladerunner import Expander
from spladerunner.evaluation.collection import Collection
from spladerunner.inference.encoder import GraphEncoder


def entries_of(expander: Expander) -> int:
    """The vocabulary entries that the document graph weighs."""
    encoder = expander._encoder("doc")
    assert isinstance(encoder, GraphEncoder)
    return encoder.entries.size


def rows(models: Sequence[str], texts: Sequence[str], rounds: int) -> Iterator[list[str]]:
    """A row for each model: entries, weights a text, documents a second, times the first model's, spread."""
    expanders = {model: Expander(model) for model in models}
    weights = {model: sum(map(len, expander.encode(texts))) for model, expander in expanders.items()}  # and warms up
    measured = in_rounds(
        {model: partial(seconds, partial(expander.encode, texts)) for model, expander in expanders.items()}, rounds
    )
    first = median(measured[models[0]])
    for model in models:
        taken = median(measured[model])
        yield [
            Path(model).name,
            f"{entries_of(expanders[model]):,}",
            f"{weights[model] / len(texts):.0f}",
            f"{len(texts) / taken:.1f}",
            f"{first / taken:.2f}",
            f"{spread(measured[model]):.0%}",
        ]


def main() -> None:
    """Measures the models and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", metavar="COLLECTION", type=Path)
    parser.add_argument("models", metavar="MODEL", nargs="+", help="bundles; speeds are compared with the first")
    parser.add_argument("--texts", type=int, default=200, metavar="N", help="documents that are encoded (default: 200)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    arguments = parser.parse_args()
    texts = list(islice(Collection.read(arguments.collection).documents.values(), arguments.texts))
    head = ["model", "entries", "weights a document", "documents a second", "of the first", "spread"]
    print(markdown_table(head, list(rows(arguments.models, texts, arguments.rounds))))


if __name__ == "__main__":
    main()
