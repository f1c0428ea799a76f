"""What is evaluated: a model, the same model with its documents pruned, or BM25."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from spladerunner.evaluation.bm25 import BM25, words
from spladerunner.evaluation.collection import Collection
from spladerunner.evaluation.index_statistics import Footprint
from spladerunner.evaluation.measures import Scores, measure
from spladerunner.evaluation.search import BLOCK, ExactSearch, Ranking
from spladerunner.expander import Expander
from spladerunner.vector import SparseVector

Progress = Callable[[str], None]

BASELINE = "BM25"

_SECONDS_BETWEEN_REPORTS = 60


@dataclass(frozen=True)
class Pruning:
    """Which weights of a document are kept: the `top` heaviest, those of at least `min_weight`, or all."""

    top: int | None = None
    min_weight: float | None = None

    def __str__(self) -> str:
        parts = [f"top {self.top}"] if self.top is not None else []
        parts += [f"min {self.min_weight:g}"] if self.min_weight is not None else []
        return ", ".join(parts)

    def __call__(self, vector: SparseVector) -> SparseVector:
        """The pruned vector."""
        if self.min_weight is not None:
            vector = vector.prune(self.min_weight)
        return vector if self.top is None else vector.top(self.top)


UNPRUNED = Pruning()


@dataclass(frozen=True)
class System:
    """What a system found on a collection, how good that is, and what it cost.

    rankings: one for each query, in the collection's order. scores: {measure: (queries,)}. documents, queries: what
    the vectors cost. Rates are in texts a second: encoding or, for BM25, stemming and indexing. search_milliseconds:
    a query, against all documents.
    """

    name: str
    model: str | None
    pruning: Pruning
    rankings: Sequence[Ranking]
    scores: Scores
    documents: Footprint
    queries: Footprint
    documents_per_second: float
    queries_per_second: float
    search_milliseconds: float

    def mean(self, name: str) -> float:
        """The mean of a measure over the queries."""
        return float(self.scores[name].mean())


def evaluate_model(
    collection: Collection,
    expander: Expander,
    prunings: Sequence[Pruning] = (UNPRUNED,),
    *,
    name: str | None = None,
    progress: Progress | None = None,
) -> list[System]:
    """One system for each pruning; the model encodes once, and no document's vector is kept.

    Queries are never pruned. Raises what Expander.encode raises.
    """
    name = expander.name if name is None else name
    vocabulary = expander.vocabulary
    started = time.perf_counter()
    queries = list(expander.stream(list(collection.queries.values()), role="query"))
    queries_per_second = len(queries) / (time.perf_counter() - started)
    query_side = Footprint(len(vocabulary))
    query_side.add(queries)

    ids = list(collection.documents)
    searches = [ExactSearch(queries, ids, vocabulary) for _ in prunings]
    sides = [Footprint(len(vocabulary)) for _ in prunings]
    search_seconds = [0.0] * len(prunings)
    encoding_seconds = 0.0
    texts = _reported(collection.documents.values(), len(ids), name, progress)
    blocks = _blocks(expander.stream(texts))
    while True:
        started = time.perf_counter()
        block = next(blocks, None)
        encoding_seconds += time.perf_counter() - started
        if block is None:
            break
        for at, pruning in enumerate(prunings):
            pruned = [pruning(vector) for vector in block]
            sides[at].add(pruned)
            started = time.perf_counter()
            searches[at].add(pruned, vocabulary)
            search_seconds[at] += time.perf_counter() - started
    return [
        System(
            name=f"{name}, {pruning}" if str(pruning) else name,
            model=name,
            pruning=pruning,
            rankings=search.rankings,
            scores=measure(collection.judgements, ids, search.rankings),
            documents=side,
            queries=query_side,
            documents_per_second=len(ids) / encoding_seconds,
            queries_per_second=queries_per_second,
            search_milliseconds=1000 * seconds / len(queries),
        )
        for pruning, search, side, seconds in zip(prunings, searches, sides, search_seconds, strict=True)
    ]


def evaluate_bm25(collection: Collection) -> tuple[System, BM25]:
    """BM25 on the same collection, and its index."""
    started = time.perf_counter()
    index = BM25(collection.documents)
    indexed = time.perf_counter()
    queries = words(collection.queries.values())
    stemmed = time.perf_counter()
    rankings = [index.ranking(query) for query in queries]
    searched = time.perf_counter()
    system = System(
        name=BASELINE,
        model=None,
        pruning=UNPRUNED,
        rankings=rankings,
        scores=measure(collection.judgements, list(collection.documents), rankings),
        documents=index.footprint,
        queries=index.query_footprint(queries),
        documents_per_second=len(collection.documents) / (indexed - started),
        queries_per_second=len(queries) / (stemmed - indexed),
        search_milliseconds=1000 * (searched - stemmed) / len(queries),
    )
    return system, index


def _blocks(vectors: Iterable[SparseVector]) -> Iterator[list[SparseVector]]:
    source = iter(vectors)
    while block := list(islice(source, BLOCK)):
        yield block


def _reported(texts: Iterable[str], count: int, name: str, progress: Progress | None) -> Iterator[str]:
    """The texts as they are; says now and then how far they are read."""
    started = reported = time.monotonic()
    for at, text in enumerate(texts):
        now = time.monotonic()
        if progress and now - reported >= _SECONDS_BETWEEN_REPORTS:
            progress(f"{name}: {at:,} of {count:,} documents, {at / (now - started):.0f} a second")
            reported = now
        yield text
