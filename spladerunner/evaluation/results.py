"""Several systems on one collection, beside BM25: as a table, as JSON, and as TREC runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

from spladerunner.atomic_file import write_atomically
from spladerunner.cli.terminal import table
from spladerunner.evaluation.bm25 import BM25, K1, B
from spladerunner.evaluation.collection import Caveat, Collection
from spladerunner.evaluation.index_statistics import POSTING_BYTES, flops, posting_reads
from spladerunner.evaluation.measures import EXPONENTIAL, MAIN, Comparison, compare
from spladerunner.evaluation.systems import BASELINE, UNPRUNED, Progress, Pruning, System, evaluate_bm25, evaluate_model
from spladerunner.expander import Expander

TEST = "paired t-test over queries, two-sided, on nDCG@10"
SCHEMA = 1


@dataclass(frozen=True)
class Evaluation:
    """Systems on a collection, BM25 among them, and what is to be known of the figures.

    systems: models and prunings, in the order in which they were asked for. warnings: what changes or may change a
    figure.
    """

    collection: Collection
    systems: Sequence[System]
    bm25: System
    bm25_index: BM25
    warnings: tuple[Caveat, ...]

    def against_bm25(self, system: System) -> Comparison:
        """A system's nDCG@10 beside BM25's."""
        return compare(system.scores[MAIN], self.bm25.scores[MAIN])

    def table(self) -> str:
        """The figures for a terminal, a column for each system."""
        systems = [*self.systems, self.bm25]
        rows = [(name, *(f"{system.mean(name):.3f}" for system in systems)) for name in self.bm25.scores]
        rows += [
            ("weights a document", *(f"{system.documents.mean_length:.1f}" for system in systems)),
            ("weights a query", *(f"{system.queries.mean_length:.1f}" for system in systems)),
            ("postings", *(f"{system.documents.postings:,}" for system in systems)),
            (f"index, {POSTING_BYTES} bytes a posting", *(megabytes(system.documents.bytes) for system in systems)),
            (
                "posting reads a query",
                *(f"{posting_reads(system.documents, system.queries):,.0f}" for system in systems),
            ),
            ("documents a second", *(f"{system.documents_per_second:,.0f}" for system in systems)),
            ("queries a second", *(f"{system.queries_per_second:,.0f}" for system in systems)),
            ("exact search, ms a query", *(f"{system.search_milliseconds:.2f}" for system in systems)),
        ]
        compared = [self.against_bm25(system) for system in self.systems]
        rows += [
            (f"{MAIN} against BM25", *(f"{against.difference:+.3f}" for against in compared), ""),
            ("  p", *(probability(against.p) for against in compared), ""),
            ("  queries better", *(f"{against.better:,}" for against in compared), ""),
            ("  queries worse", *(f"{against.worse:,}" for against in compared), ""),
        ]
        return "\n".join(
            [
                f"{self.collection.name}, {self.collection.split}: {self.size()}",
                "",
                table(("", *(system.name for system in systems)), rows, right=range(1, len(systems) + 1)),
                "",
                *self.notes(),
            ]
        )

    def size(self) -> str:
        """How much there is of the collection, in words."""
        judgements = sum(map(len, self.collection.judgements.values()))
        return (
            f"{len(self.collection.documents):,} documents, {len(self.collection.queries):,} judged queries, "
            f"{judgements:,} judgements"
        )

    def notes(self) -> list[str]:
        """What the figures mean, a line each."""
        beside = f"; {EXPONENTIAL.partition(', ')[2]} is given beside it" if EXPONENTIAL in self.bm25.scores else ""
        return [
            f"nDCG takes the grade as its gain, as trec_eval does{beside}.",
            "Posting reads: expected, every list of a query's tokens read to its end (FLOPS × documents).",
            f"BM25: k1 {K1}, b {B}, English stemming and stop words; its documents a second are stemmed and indexed.",
            f"p: {TEST}, not corrected for the number of systems.",
        ]

    def record(self) -> dict[str, Any]:
        """Everything as JSON takes it, with each query's figures."""
        packages = ("spladerunner", "onnxruntime", "ir-measures", "pytrec-eval-terrier", "bm25s", "scipy")
        return {
            "schema": SCHEMA,
            "collection": {
                "name": self.collection.name,
                "split": self.collection.split,
                "documents": len(self.collection.documents),
                "queries": len(self.collection.queries),
                "judgements": sum(map(len, self.collection.judgements.values())),
            },
            "warnings": [asdict(finding) for finding in self.warnings],
            "significance_test": TEST,
            "posting_bytes": POSTING_BYTES,
            "systems": [self._system(system) for system in (*self.systems, self.bm25)],
            "versions": {name: version(name) for name in packages},
        }

    def _system(self, system: System) -> dict[str, Any]:
        settings = {"k1": K1, "b": B} if system is self.bm25 else asdict(system.pruning)
        return {
            "name": system.name,
            "model": system.model,
            **settings,
            "run": self.run_names()[system.name],
            "measures": {name: system.mean(name) for name in system.scores},
            "against_bm25": None if system is self.bm25 else asdict(self.against_bm25(system)),
            "weights_per_document": system.documents.mean_length,
            "weights_per_query": system.queries.mean_length,
            "postings": system.documents.postings,
            "index_bytes": system.documents.bytes,
            "flops": flops(system.documents, system.queries),
            "posting_reads_per_query": posting_reads(system.documents, system.queries),
            "documents_per_second": system.documents_per_second,
            "queries_per_second": system.queries_per_second,
            "search_milliseconds_per_query": system.search_milliseconds,
            "per_query": {
                name: dict(zip(self.collection.queries, scores.tolist(), strict=True))
                for name, scores in system.scores.items()
            },
        }

    def run_names(self) -> dict[str, str]:
        """The file name of each system's run, {system: name}."""
        names: dict[str, str] = {}
        for system in (*self.systems, self.bm25):
            plain = re.sub(r"[^\w.]+", "-", system.name).strip("-.") or "system"
            number = sum(name.removesuffix(".run").rpartition("~")[0] == plain for name in names.values())
            taken = f"{plain}.run" in names.values()
            names[system.name] = f"{plain}~{number + 2}.run" if taken else f"{plain}.run"
        return names

    def trec_run(self, system: System) -> Iterator[str]:
        """The lines of a TREC run. Scores have the digits that bring the float32 back, and ties trec_eval's order."""
        ids = list(self.collection.documents)
        tag = self.run_names()[system.name].removesuffix(".run")
        for query, found in zip(self.collection.queries, system.rankings, strict=True):
            for rank, (document, score) in enumerate(zip(found.documents, found.scores, strict=True), 1):
                yield f"{query} Q0 {ids[document]} {rank} {score:.9g} {tag}\n"

    def save(self, folder: str | PathLike[str]) -> None:
        """Writes result.json and a TREC run for each system, each file whole. Files of other names stay."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for system in (*self.systems, self.bm25):
            write_atomically(folder / self.run_names()[system.name], self.trec_run(system))
        write_atomically(folder / "result.json", json.dumps(self.record(), ensure_ascii=False, indent=1) + "\n")


def evaluate(
    collection: Collection,
    expanders: Sequence[Expander],
    prunings: Sequence[Pruning] = (UNPRUNED,),
    *,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Every model with every pruning of its documents, and BM25.

    names: what the models are called; unless given, what they call themselves. progress: is told what is under way.
    Raises ValueError where two models have one name, or BM25's, and what Expander.encode raises.
    """
    names = [expander.name for expander in expanders] if names is None else names
    if len({*names, BASELINE}) <= len(names) or len(set(prunings)) < len(prunings):
        raise ValueError(
            f"models and prunings must differ, and no model be called {BASELINE}, but they are {list(names)} and "
            f"{list(map(str, prunings))}"
        )
    progress = progress or (lambda _: None)
    progress(f"BM25: {len(collection.documents):,} documents")
    bm25, index = evaluate_bm25(collection)
    systems: list[System] = []
    for name, expander in zip(names, expanders, strict=True):
        progress(f"{name}: {len(collection.documents):,} documents, {len(collection.queries):,} queries")
        systems += evaluate_model(collection, expander, prunings, name=name, progress=progress)
    found_nothing = [
        Caveat(f"queries that find nothing by {system.name}, counted as 0 (as by trec_eval -c)", count)
        for system in (*systems, bm25)
        if (count := sum(not ranking.documents.size for ranking in system.rankings))
    ]
    return Evaluation(collection, systems, bm25, index, (*collection.warnings, *found_nothing))


def megabytes(count: float) -> str:
    """A number of bytes in a unit that suits it."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


def probability(p: float | None) -> str:
    """A p-value as it is printed."""
    if p is None:
        return "not defined"
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"
