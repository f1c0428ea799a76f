"""Long documents: nDCG@10 of their beginnings, of their windows joined by the maximum, and of their best passages.

    python -m benchmarks.windows COLLECTION [--lengths 256 128]

COLLECTION is a folder in BEIR's layout. The cost is told by the windows that run, the tokens in them, and the CPU time
that they take.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import markdown_table, save_result
from spladerunner import Expander, Passage, SparseVector
from spladerunner.evaluation.collection import Collection
from spladerunner.evaluation.measures import MAIN, measure
from spladerunner.evaluation.search import DEPTH, ExactSearch, Ranking
from spladerunner.passages import joined
from spladerunner.vocabulary import Vocabulary

SPECIAL_TOKENS = 2
OVERLAPS = (0, 0.25)
"""Shares of a window that its neighbor repeats."""


class Row(NamedTuple):
    """Quality and cost of one way to read documents.

    runs: windows that the model runs for a document. read: tokens that it reads, of those of the documents; more than
    1 where windows overlap. cpu_seconds: of all documents, from texts to vectors. weights: stored for a document.
    """

    way: str
    ndcg: float
    runs: float
    read: float
    cpu_seconds: float
    weights: float


def rows(collection: Collection, expander: Expander, size: int) -> Iterator[Row]:
    """The ways of reading a collection in windows of `size` tokens, special ones not counted."""
    documents = list(collection.documents.values())
    vocabulary = expander.vocabulary
    queries = expander.encode(collection.queries.values(), role="query")
    expander.encode(documents[:1])  # opens the graph before the first measurement
    for overlap in (None, *(int(share * size) for share in OVERLAPS)):
        started = time.process_time()
        passages = list(expander.passages(documents, overlap=overlap))
        cpu_seconds = time.process_time() - started
        if overlap is None:
            ways = {"beginning": passages}
        else:
            whole = list(joined(passages, len(vocabulary)))
            ways = {f"maximum of windows, overlap {overlap}": whole, f"best passage, overlap {overlap}": passages}
        tokens = sum(passage.tokens for passage in passages if passage.number == 0)
        for way, found in ways.items():
            yield Row(
                way,
                ndcg(collection, queries, found, vocabulary),
                len(passages) / len(documents),
                sum(passage.end - passage.start for passage in passages) / tokens,
                cpu_seconds,
                sum(len(passage.vector) for passage in found) / len(documents),
            )


def ndcg(
    collection: Collection, queries: Sequence[SparseVector], passages: Sequence[Passage], vocabulary: Vocabulary
) -> float:
    """Mean nDCG@10. The score of a document is that of its best passage."""
    ids = list(collection.documents)
    most = max(Counter(passage.text for passage in passages).values())
    names = [f"{ids[passage.text]}#{passage.number}" for passage in passages]
    search = ExactSearch(queries, names, vocabulary, depth=DEPTH * most)
    search.add([passage.vector for passage in passages], vocabulary)
    text_of = np.array([passage.text for passage in passages])
    rankings = []
    for ranking in search.rankings:
        texts = text_of[ranking.documents]
        best = np.sort(np.unique(texts, return_index=True)[1])[:DEPTH]
        rankings.append(Ranking(texts[best], ranking.scores[best]))
    return float(measure(collection.judgments, ids, rankings)[MAIN].mean())


def report(result: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Table of all lengths. CPU time is relative to reading the beginnings alone."""
    head = ["max_length", "documents by", "nDCG@10", "windows a document", "tokens read", "CPU time", "weights"]
    table = []
    for length, found in result.items():
        ways = [Row(**each) for each in found]
        table += [
            [
                length,
                row.way,
                f"{row.ndcg:.3f}",
                f"{row.runs:.2f}",
                f"{row.read:.2f}",
                f"{row.cpu_seconds / ways[0].cpu_seconds:.2f}",
                f"{row.weights:.0f}",
            ]
            for row in ways
        ]
    return markdown_table(head, table)


def main() -> None:
    """Measures each length, saves the rows and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", metavar="COLLECTION", type=Path)
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 128], help="values of max_length")
    arguments = parser.parse_args()
    collection = Collection.read(arguments.collection)
    result = {}
    for length in arguments.lengths:
        found = rows(collection, Expander(max_length={"doc": length}), length - SPECIAL_TOKENS)
        result[str(length)] = [row._asdict() for row in found]
    save_result("windows", result)
    print(report(result))


if __name__ == "__main__":
    main()
