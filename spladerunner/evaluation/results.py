"""The evaluation of several systems on one collection, as rows of figures, as JSON, and as TREC runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from itertools import combinations, product
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from spladerunner.atomic_file import write_atomically
from spladerunner.evaluation.bm25 import BM25, K1, B
from spladerunner.evaluation.collection import Caveat, Collection
from spladerunner.evaluation.fusion import K
from spladerunner.evaluation.index_statistics import POSTING_BYTES
from spladerunner.evaluation.measures import (
    DEFAULT_MEASURES,
    EXPONENTIAL,
    SIGNIFICANCE_TEST,
    Comparison,
    compare,
    holm,
)
from spladerunner.evaluation.rows import COMPARISON, INDEX, SPEED, Row, measure_figure
from spladerunner.evaluation.systems import (
    BASELINE,
    UNPRUNED,
    Progress,
    Pruning,
    System,
    evaluate_bm25,
    evaluate_model,
    fuse,
    fused_names,
    system_name,
)
from spladerunner.expander import Expander

SCHEMA = 3
"""The version of result.json. 3: BM25 first, `comparisons`, `fusion`; 2: `judgments` and `caveats`."""

LONGEST_RUN_NAME = 55
"""Characters of a system's name in that of its run: file systems allow 255 bytes, and a character takes up to four."""

PACKAGES = ("spladerunner", "onnxruntime", "ir-measures", "pytrec-eval-terrier", "bm25s", "scipy")
"""Packages whose versions are recorded, since figures may depend on them."""


class Pair(NamedTuple):
    """Two systems by name, and the comparison of the first with the second."""

    system: str
    other: str
    comparison: Comparison


@dataclass(frozen=True)
class Evaluation:
    """The systems evaluated on a collection.

    bm25, bm25_index: the baseline and its index. model_systems: every model with every pruning, then fused with BM25,
    in the order requested. caveats: what changes or may change a figure.
    """

    collection: Collection
    bm25: System
    bm25_index: BM25
    model_systems: Sequence[System]
    caveats: tuple[Caveat, ...]

    @property
    def systems(self) -> list[System]:
        """All systems, BM25 first."""
        return [self.bm25, *self.model_systems]

    @property
    def main(self) -> str:
        """The measure on which systems are compared: the first."""
        return next(iter(self.bm25.scores))

    @property
    def title(self) -> str:
        """The collection's name and split."""
        return f"{self.collection.name}, {self.collection.split}"

    @property
    def size(self) -> str:
        """The collection's size in words."""
        return (
            f"{len(self.collection.documents):,} documents, {len(self.collection.queries):,} judged queries, "
            f"{self._judgments:,} judgments"
        )

    @property
    def _judgments(self) -> int:
        return sum(map(len, self.collection.judgments.values()))

    @cached_property
    def pairs(self) -> list[Pair]:
        """Each system compared with each one before it on the main measure, with p corrected for all these pairs."""
        pairs = [(second, first) for first, second in combinations(self.systems, 2)]
        compared = [compare(system.scores[self.main], other.scores[self.main]) for system, other in pairs]
        corrected = holm([comparison.p for comparison in compared])
        return [
            Pair(system.name, other.name, replace(comparison, p_holm=p))
            for (system, other), comparison, p in zip(pairs, compared, corrected, strict=True)
        ]

    def against_bm25(self, system: System) -> Comparison:
        """The comparison of a model's system with BM25."""
        return next(pair.comparison for pair in self.pairs if pair[:2] == (system.name, self.bm25.name))

    def rows(self) -> dict[str, list[Row]]:
        """All figures, a cell for each of `systems`, in the groups measures, against_bm25, index and speed."""
        compared = [None, *map(self.against_bm25, self.model_systems)]
        return {
            "measures": [measure_figure(name).row(self.systems) for name in self.bm25.scores],
            "against_bm25": [figure.row(compared) for figure in COMPARISON],
            "index": [figure.row(self.systems) for figure in INDEX],
            "speed": [figure.row(self.systems) for figure in SPEED],
        }

    def notes(self) -> list[str]:
        """Definitions of the figures, a line each."""
        also = f"; {EXPONENTIAL.partition(', ')[2]} is reported separately" if EXPONENTIAL in self.bm25.scores else ""
        fusions = [
            f"Reciprocal rank: the sum of 1 / ({K} + rank). Weight: the model's share of the score, where the "
            "scores of each are divided by the query's largest; it is not tuned."
        ]
        return [
            f"nDCG uses the grade as gain, as trec_eval does{also}.",
            "FLOPS: expected number of tokens that a query and a document share.",
            "Posting reads: FLOPS × documents, as every posting list of a query's tokens is read to its end.",
            "A query alone: percentiles of the time to encode one query (BM25: to stem it).",
            f"BM25: k1 {K1}, b {B}, English stemming and stop words; its documents per second are stemmed and indexed.",
            *(fusions if any(system.fusion for system in self.systems) else []),
            f"Better, worse, p: on {self.main}. p: {SIGNIFICANCE_TEST}; Holm's correction is for "
            f"every comparison of two systems, {len(self.pairs):,} in all.",
        ]

    def record(self) -> dict[str, Any]:
        """The content of result.json: all figures, and the scores of each query."""
        rows = self.rows()
        names = self.run_names()
        systems = []
        for at, system in enumerate(self.systems):
            values = {group: {row.key: row.cells[at].value for row in rows[group]} for group in rows}
            systems.append(
                {
                    "name": system.name,
                    "model": system.model,
                    **({"k1": K1, "b": B} if system is self.bm25 else asdict(system.pruning)),
                    "query_pruning": asdict(system.query_pruning),
                    "fusion": system.fusion,
                    "run": names[system.name],
                    "measures": values["measures"],
                    "against_bm25": None if system is self.bm25 else values["against_bm25"],
                    **values["index"],
                    **values["speed"],
                    "per_query": {
                        name: dict(zip(self.collection.queries, scores.tolist(), strict=True))
                        for name, scores in system.scores.items()
                    },
                }
            )
        return {
            "schema": SCHEMA,
            "collection": {
                "name": self.collection.name,
                "split": self.collection.split,
                "documents": len(self.collection.documents),
                "queries": len(self.collection.queries),
                "judgments": self._judgments,
            },
            "caveats": [asdict(caveat) for caveat in self.caveats],
            "significance_test": f"{SIGNIFICANCE_TEST}, on {self.main}",
            "posting_bytes": POSTING_BYTES,
            "systems": systems,
            "comparisons": [
                {"system": pair.system, "minus": pair.other, **asdict(pair.comparison)} for pair in self.pairs
            ],
            "versions": {name: version(name) for name in PACKAGES},
        }

    def run_names(self) -> dict[str, str]:
        """The file name of each system's run, {system: name}; they differ in more than case."""
        names: dict[str, str] = {}
        taken: set[str] = set()
        for system in self.systems:
            stem = re.sub(r"[^\w.]+", "-", system.name)[-LONGEST_RUN_NAME:].strip("-.") or "system"
            name, number = f"{stem}.run", 1
            while name.casefold() in taken:
                number += 1
                name = f"{stem}~{number}.run"
            taken.add(name.casefold())
            names[system.name] = name
        return names

    def trec_run(self, system: System) -> Iterator[str]:
        """The lines of a TREC run, in trec_eval's order of ties. Scores have nine digits, which restore the float32."""
        ids = list(self.collection.documents)
        tag = self.run_names()[system.name].removesuffix(".run")
        for query, ranking in zip(self.collection.queries, system.rankings, strict=True):
            for rank, (document, score) in enumerate(zip(ranking.documents, ranking.scores, strict=True), 1):
                yield f"{query} Q0 {ids[document]} {rank} {score:.9g} {tag}\n"

    def save(self, folder: str | PathLike[str]) -> None:
        """Writes result.json and a TREC run for each system, each file atomically. Other files stay."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for system in self.systems:
            write_atomically(folder / self.run_names()[system.name], self.trec_run(system))
        write_atomically(folder / "result.json", json.dumps(self.record(), indent=1) + "\n")


def evaluate(
    collection: Collection,
    expanders: Sequence[Expander],
    prunings: Sequence[Pruning] = (UNPRUNED,),
    query_prunings: Sequence[Pruning] = (UNPRUNED,),
    *,
    names: Sequence[str] | None = None,
    measures: Sequence[str] = DEFAULT_MEASURES,
    fusion_weight: float | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluates BM25, and every model with every pruning of its documents and its queries.

    names: of the models; unless given, their own. measures: names that measures.parse_measure takes; systems are
    compared on the first. fusion_weight: also fuse each unpruned model with BM25, by reciprocal rank and with this
    weight, from 0 to 1. progress: called with a line that says what runs now.
    Raises ValueError if two systems have one name or a measure is unknown, and what Expander.encode raises.

    >>> documents = {"d1": "Trout live in cold rivers.", "d2": "A bank lends money."}
    >>> collection = Collection("two", "test", documents, {"q1": "where do trout live"}, {"q1": {"d1": 1}})
    >>> evaluation = evaluate(collection, [Expander()], [UNPRUNED, Pruning(top=8)])
    >>> [(system.name, system.mean("nDCG@10")) for system in evaluation.systems]
    [('BM25', 1.0), ('tiny-en', 1.0), ('tiny-en, top 8', 1.0)]
    """
    names = [expander.name for expander in expanders] if names is None else names
    called = [BASELINE, *(system_name(name, *pair) for name in names for pair in product(prunings, query_prunings))]
    if fusion_weight is not None:
        called += [fused for name in names for fused in fused_names(name, fusion_weight)]
    if len(set(called)) < len(called):
        raise ValueError(f"systems must differ in name, but they are called {called}")
    progress = progress or (lambda _: None)
    progress(f"{BASELINE}: {len(collection.documents):,} documents")
    bm25, index = evaluate_bm25(collection, measures)
    systems: list[System] = []
    for name, expander in zip(names, expanders, strict=True):
        progress(f"{name}: {len(collection.documents):,} documents, {len(collection.queries):,} queries")
        systems += evaluate_model(
            collection, expander, prunings, query_prunings, name=name, measures=measures, progress=progress
        )
    if fusion_weight is not None:
        for system in [system for system in systems if system.unpruned]:
            systems += fuse(collection, system, bm25, fusion_weight, measures)
    empty = [
        Caveat(f"queries that retrieve nothing by {system.name}, counted as 0 (as by trec_eval -c)", count)
        for system in (bm25, *systems)
        if (count := sum(not ranking.documents.size for ranking in system.rankings))
    ]
    cut = [
        Caveat(what, count)
        for system in systems
        if system.unpruned
        for what, count in (
            (f"documents that {system.model} cuts, {system.tokens_lost:.1%} of all tokens", system.documents_cut),
            (f"queries that {system.model} cuts", system.queries_cut),
        )
        if count
    ]
    return Evaluation(collection, bm25, index, systems, (*collection.caveats, *cut, *empty))
