"""Systems under evaluation: a model, a model with pruned documents, or BM25."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from spladerunner.evaluation.bm25 import BM25, stem
from spladerunner.evaluation.collection import Collection
from spladerunner.evaluation.index_statistics import IndexStatistics
from spladerunner.evaluation.measures import Scores, measure
from spladerunner.evaluation.search import BLOCK, ExactSearch, Ranking
from spladerunner.expander import Expander
from spladerunner.vector import SparseVector

Progress = Callable[[str], None]
"""Takes a line that says what runs now."""

BASELINE = "BM25"

_SECONDS_BETWEEN_REPORTS = 60


@dataclass(frozen=True)
class Pruning:
    """Keeps the `top` largest weights of a document, those of at least `min_weight`, or, by default, all.

    >>> str(Pruning(top=64)), str(Pruning(min_weight=0.5))
    ('top 64', 'min 0.5')
    >>> Pruning(top=1)(SparseVector([2, 7], [0.3, 1.0]))
    SparseVector(indices=array([7], dtype=int32), values=array([1.], dtype=float32))
    """

    top: int | None = None
    min_weight: float | None = None

    def __str__(self) -> str:
        parts = [f"top {self.top}"] if self.top is not None else []
        parts += [f"min {_exact(self.min_weight)}"] if self.min_weight is not None else []
        return ", ".join(parts)

    def __call__(self, vector: SparseVector) -> SparseVector:
        """Prunes a vector."""
        if self.min_weight is not None:
            vector = vector.prune(self.min_weight)
        return vector if self.top is None else vector.top(self.top)


def system_name(model: str, pruning: Pruning) -> str:
    """The name of a model with a pruning.

    >>> system_name("tiny-en", Pruning(top=64))
    'tiny-en, top 64'
    """
    return ", ".join(filter(None, (model, str(pruning))))


def _exact(number: float) -> str:
    """The shortest text that no other number has."""
    return repr(float(number)).removesuffix(".0")


UNPRUNED = Pruning()


@dataclass(frozen=True)
class System:
    """A system's rankings on a collection, with their scores and their cost.

    model: the model's name; None for BM25. rankings: one for each query, in the collection's order.
    scores: {measure: (queries,)}. documents, queries: statistics of their vectors.
    documents_per_second, queries_per_second: rates of encoding or, for BM25, of stemming and indexing.
    search_milliseconds: per query, against all documents.
    """

    name: str
    model: str | None
    pruning: Pruning
    rankings: Sequence[Ranking]
    scores: Scores
    documents: IndexStatistics
    queries: IndexStatistics
    documents_per_second: float
    queries_per_second: float
    search_milliseconds: float

    def mean(self, measure: str) -> float:
        """The mean of a measure over the queries."""
        return float(self.scores[measure].mean())


def evaluate_model(
    collection: Collection,
    expander: Expander,
    prunings: Sequence[Pruning] = (UNPRUNED,),
    *,
    name: str | None = None,
    progress: Progress | None = None,
) -> list[System]:
    """Evaluates a model, one system for each pruning of its documents; queries are not pruned.

    The model encodes each text once, and document vectors are dropped after scoring. Raises what Expander.encode
    raises.
    """
    name = expander.name if name is None else name
    vocabulary = expander.vocabulary
    started = time.perf_counter()
    queries = list(expander.stream(list(collection.queries.values()), role="query"))
    queries_per_second = len(queries) / (time.perf_counter() - started)
    query_statistics = IndexStatistics(len(vocabulary))
    query_statistics.add(queries)

    ids = list(collection.documents)
    searches = [ExactSearch(queries, ids, vocabulary) for _ in prunings]
    statistics = [IndexStatistics(len(vocabulary)) for _ in prunings]
    search_seconds = [0.0] * len(prunings)
    encoding_seconds = 0.0
    texts = _with_progress(collection.documents.values(), len(ids), name, progress)
    blocks = _blocks(expander.stream(texts))
    while True:
        started = time.perf_counter()
        block = next(blocks, None)
        encoding_seconds += time.perf_counter() - started
        if block is None:
            break
        for at, pruning in enumerate(prunings):
            pruned = [pruning(vector) for vector in block]
            statistics[at].add(pruned)
            started = time.perf_counter()
            searches[at].add(pruned, vocabulary)
            search_seconds[at] += time.perf_counter() - started
    return [
        System(
            name=system_name(name, pruning),
            model=name,
            pruning=pruning,
            rankings=search.rankings,
            scores=measure(collection.judgments, ids, search.rankings),
            documents=document_statistics,
            queries=query_statistics,
            documents_per_second=len(ids) / encoding_seconds,
            queries_per_second=queries_per_second,
            search_milliseconds=1000 * seconds / len(queries),
        )
        for pruning, search, document_statistics, seconds in zip(
            prunings, searches, statistics, search_seconds, strict=True
        )
    ]


def evaluate_bm25(collection: Collection) -> tuple[System, BM25]:
    """Evaluates BM25; returns the system and its index."""
    started = time.perf_counter()
    index = BM25(collection.documents)
    indexed = time.perf_counter()
    queries = stem(collection.queries.values())
    stemmed = time.perf_counter()
    rankings = [index.rank(query) for query in queries]
    searched = time.perf_counter()
    system = System(
        name=BASELINE,
        model=None,
        pruning=UNPRUNED,
        rankings=rankings,
        scores=measure(collection.judgments, list(collection.documents), rankings),
        documents=index.statistics,
        queries=index.query_statistics(queries),
        documents_per_second=len(collection.documents) / (indexed - started),
        queries_per_second=len(queries) / (stemmed - indexed),
        search_milliseconds=1000 * (searched - stemmed) / len(queries),
    )
    return system, index


def _blocks(vectors: Iterable[SparseVector]) -> Iterator[list[SparseVector]]:
    source = iter(vectors)
    while block := list(islice(source, BLOCK)):
        yield block


def _with_progress(texts: Iterable[str], count: int, name: str, progress: Progress | None) -> Iterator[str]:
    """Yields the texts and reports once a minute how many have been read."""
    started = reported = time.monotonic()
    for at, text in enumerate(texts):
        now = time.monotonic()
        if progress and now - reported >= _SECONDS_BETWEEN_REPORTS:
            progress(f"{name}: {at:,} of {count:,} documents, {at / (now - started):.0f} per second")
            reported = now
        yield text
