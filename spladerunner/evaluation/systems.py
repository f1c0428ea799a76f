"""Systems under evaluation: a model, a model with pruned vectors, BM25, or a model fused with BM25."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product

import numpy as np
from numpy.typing import NDArray

from spladerunner.evaluation import fusion
from spladerunner.evaluation.bm25 import BM25, stem
from spladerunner.evaluation.collection import Collection
from spladerunner.evaluation.index_statistics import IndexStatistics
from spladerunner.evaluation.measures import DEFAULT_MEASURES, Scores, measure
from spladerunner.evaluation.search import BLOCK, ExactSearch, Ranking, tie_order
from spladerunner.expander import Expander
from spladerunner.passages import Passage
from spladerunner.vector import SparseVector

Progress = Callable[[str], None]
"""Takes a line that says what runs now."""

BASELINE = "BM25"

TIMED_QUERIES = 1000
"""The most queries whose latencies are measured."""

_SECONDS_BETWEEN_REPORTS = 60


@dataclass(frozen=True)
class Pruning:
    """Keeps the `top` largest weights of a vector, those of at least `min_weight`, or those of at least `max_ratio`
    times its largest; by default, all.

    >>> str(Pruning(top=64)), str(Pruning(min_weight=0.5)), str(Pruning(max_ratio=0.1))
    ('top 64', 'min 0.5', 'ratio 0.1')
    >>> Pruning(top=1)(SparseVector([2, 7], [0.3, 1.0]))
    SparseVector(indices=array([7], dtype=int32), values=array([1.], dtype=float32))
    """

    top: int | None = None
    min_weight: float | None = None
    max_ratio: float | None = None

    def __str__(self) -> str:
        parts = [f"top {self.top}"] if self.top is not None else []
        parts += [f"min {_exact(self.min_weight)}"] if self.min_weight is not None else []
        parts += [f"ratio {_exact(self.max_ratio)}"] if self.max_ratio is not None else []
        return ", ".join(parts)

    def __call__(self, vector: SparseVector) -> SparseVector:
        """Prunes a vector."""
        return vector.prune(self.min_weight, max_ratio=self.max_ratio, top=self.top)


def _exact(number: float) -> str:
    """The shortest text that no other number has."""
    return repr(float(number)).removesuffix(".0")


UNPRUNED = Pruning()


def system_name(model: str, pruning: Pruning, query_pruning: Pruning = UNPRUNED) -> str:
    """The name of a model whose vectors are pruned.

    >>> system_name("tiny-en", Pruning(top=64), Pruning(top=8))
    'tiny-en, top 64, queries top 8'
    """
    queries = f"queries {query_pruning}" if query_pruning != UNPRUNED else ""
    return ", ".join(filter(None, (model, str(pruning), queries)))


def fused_names(model: str, weight: float) -> tuple[str, str]:
    """The names of a model's two fusions with BM25.

    >>> fused_names("tiny-en", 0.5)
    ('tiny-en + BM25, reciprocal rank', 'tiny-en + BM25, weight 0.5')
    """
    return f"{model} + {BASELINE}, reciprocal rank", f"{model} + {BASELINE}, weight {_exact(weight)}"


@dataclass(frozen=True)
class System:
    """A system's rankings on a collection, with their scores and their cost.

    model: the model's name; None for BM25. fusion: what joins the model with BM25; None for one system alone.
    rankings: one for each query, in the collection's order. scores: {measure: (queries,)}.
    documents, queries: statistics of their vectors.
    documents_per_second, queries_per_second: rates of encoding or, for BM25, of stemming and indexing.
    query_milliseconds: of encoding (or stemming) a query alone, for each of the first TIMED_QUERIES.
    search_milliseconds: per query, against all documents.
    documents_cut, queries_cut: texts that the model does not read to their end. tokens_lost: the share of the
    documents' tokens that it does not read, from 0 to 1.
    """

    name: str
    model: str | None
    rankings: Sequence[Ranking]
    scores: Scores
    documents: IndexStatistics
    queries: IndexStatistics
    documents_per_second: float
    queries_per_second: float
    query_milliseconds: NDArray[np.float64]
    search_milliseconds: float
    pruning: Pruning = UNPRUNED
    query_pruning: Pruning = UNPRUNED
    fusion: str | None = None
    documents_cut: int = 0
    queries_cut: int = 0
    tokens_lost: float = 0.0

    @property
    def unpruned(self) -> bool:
        """A model with all its weights, and not fused."""
        return bool(self.model) and self.fusion is None and self.pruning == self.query_pruning == UNPRUNED

    def mean(self, measure: str) -> float:
        """The mean of a measure over the queries."""
        return float(self.scores[measure].mean())


def evaluate_model(
    collection: Collection,
    expander: Expander,
    prunings: Sequence[Pruning] = (UNPRUNED,),
    query_prunings: Sequence[Pruning] = (UNPRUNED,),
    *,
    name: str | None = None,
    measures: Sequence[str] = DEFAULT_MEASURES,
    progress: Progress | None = None,
) -> list[System]:
    """Evaluates a model, one system for each pruning of its documents with each pruning of its queries.

    The model encodes each document once, and document vectors are dropped after scoring. Raises what Expander.encode
    raises.
    """
    name = expander.name if name is None else name
    vocabulary = expander.vocabulary
    texts = list(collection.queries.values())
    started = time.perf_counter()
    queries = list(expander.stream(texts, role="query"))
    queries_per_second = len(queries) / (time.perf_counter() - started)
    query_milliseconds = _milliseconds(lambda text: expander.encode(text, role="query"), texts)

    queries_cut = sum(count.cut for count in expander.count_tokens(texts, role="query"))
    ids = list(collection.documents)
    pruned_queries = {pruning: [pruning(vector) for vector in queries] for pruning in query_prunings}
    query_statistics = {pruning: IndexStatistics(len(vocabulary)) for pruning in query_prunings}
    for pruning, vectors in pruned_queries.items():
        query_statistics[pruning].add(vectors)
    pairs = list(product(prunings, query_prunings))
    searches = {pair: ExactSearch(pruned_queries[pair[1]], ids, vocabulary) for pair in pairs}
    search_seconds = dict.fromkeys(pairs, 0.0)
    statistics = {pruning: IndexStatistics(len(vocabulary)) for pruning in prunings}
    encoding_seconds = 0.0
    documents_cut = tokens = tokens_read = 0
    documents = _with_progress(collection.documents.values(), len(ids), name, progress)
    blocks = _blocks(expander.passages(documents, overlap=None))
    while True:
        started = time.perf_counter()
        block = next(blocks, None)
        encoding_seconds += time.perf_counter() - started
        if block is None:
            break
        documents_cut += sum(passage.end < passage.tokens for passage in block)
        tokens += sum(passage.tokens for passage in block)
        tokens_read += sum(passage.end for passage in block)
        for pruning in prunings:
            pruned = [pruning(passage.vector) for passage in block]
            statistics[pruning].add(pruned)
            for query_pruning in query_prunings:
                started = time.perf_counter()
                searches[pruning, query_pruning].add(pruned, vocabulary)
                search_seconds[pruning, query_pruning] += time.perf_counter() - started
    return [
        System(
            name=system_name(name, pruning, query_pruning),
            model=name,
            rankings=searches[pruning, query_pruning].rankings,
            scores=measure(collection.judgments, ids, searches[pruning, query_pruning].rankings, measures),
            documents=statistics[pruning],
            queries=query_statistics[query_pruning],
            documents_per_second=len(ids) / encoding_seconds,
            queries_per_second=queries_per_second,
            query_milliseconds=query_milliseconds,
            search_milliseconds=1000 * search_seconds[pruning, query_pruning] / len(queries),
            pruning=pruning,
            query_pruning=query_pruning,
            documents_cut=documents_cut,
            queries_cut=queries_cut,
            tokens_lost=1 - tokens_read / max(tokens, 1),
        )
        for pruning, query_pruning in pairs
    ]


def evaluate_bm25(collection: Collection, measures: Sequence[str] = DEFAULT_MEASURES) -> tuple[System, BM25]:
    """Evaluates BM25; returns the system and its index."""
    texts = list(collection.queries.values())
    started = time.perf_counter()
    index = BM25(collection.documents)
    indexed = time.perf_counter()
    queries = stem(texts)
    stemmed = time.perf_counter()
    rankings = [index.rank(query) for query in queries]
    searched = time.perf_counter()
    system = System(
        name=BASELINE,
        model=None,
        rankings=rankings,
        scores=measure(collection.judgments, list(collection.documents), rankings, measures),
        documents=index.statistics,
        queries=index.query_statistics(queries),
        documents_per_second=len(collection.documents) / (indexed - started),
        queries_per_second=len(texts) / (stemmed - indexed),
        query_milliseconds=_milliseconds(lambda text: stem([text]), texts),
        search_milliseconds=1000 * (searched - stemmed) / len(texts),
    )
    return system, index


def fuse(
    collection: Collection,
    system: System,
    bm25: System,
    weight: float,
    measures: Sequence[str] = DEFAULT_MEASURES,
) -> list[System]:
    """Fuses a model with BM25, by reciprocal rank and by weighted scores. weight: of the model, from 0 to 1.

    Both systems run, one after the other, and both indexes are kept.
    """
    ids = list(collection.documents)
    ties = tie_order(ids)
    assert system.model is not None
    by_rank, by_score = fused_names(system.model, weight)
    fusions: dict[str, Callable[[Ranking, Ranking], Ranking]] = {
        by_rank: lambda *pair: fusion.reciprocal_rank(pair, ties),
        by_score: lambda *pair: fusion.weighted(pair, (weight, 1 - weight), ties),
    }
    fused = []
    for name, join in fusions.items():
        started = time.perf_counter()
        rankings = [join(*pair) for pair in zip(system.rankings, bm25.rankings, strict=True)]
        milliseconds = 1000 * (time.perf_counter() - started) / len(rankings)
        fused.append(
            System(
                name=name,
                model=system.model,
                rankings=rankings,
                scores=measure(collection.judgments, ids, rankings, measures),
                documents=system.documents.beside(bm25.documents),
                queries=system.queries.beside(bm25.queries),
                documents_per_second=1 / (1 / system.documents_per_second + 1 / bm25.documents_per_second),
                queries_per_second=1 / (1 / system.queries_per_second + 1 / bm25.queries_per_second),
                query_milliseconds=system.query_milliseconds + bm25.query_milliseconds,
                search_milliseconds=system.search_milliseconds + bm25.search_milliseconds + milliseconds,
                fusion=name.rpartition(", ")[2],
                documents_cut=system.documents_cut,
                queries_cut=system.queries_cut,
                tokens_lost=system.tokens_lost,
            )
        )
    return fused


def _milliseconds(encode: Callable[[str], object], texts: Sequence[str]) -> NDArray[np.float64]:
    """The latency of each of the first TIMED_QUERIES texts, one at a time."""
    seconds = []
    for text in texts[:TIMED_QUERIES]:
        started = time.perf_counter()
        encode(text)
        seconds.append(time.perf_counter() - started)
    return 1000 * np.array(seconds)


def _blocks(passages: Iterable[Passage]) -> Iterator[list[Passage]]:
    source = iter(passages)
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
