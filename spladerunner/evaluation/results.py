"""The evaluation of several systems on one collection, as rows of figures, as JSON, and as TREC runs."""

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
from spladerunner.evaluation.bm25 import BM25, K1, B
from spladerunner.evaluation.collection import Caveat, Collection
from spladerunner.evaluation.index_statistics import POSTING_BYTES
from spladerunner.evaluation.measures import EXPONENTIAL, MAIN, SIGNIFICANCE_TEST, Comparison, compare
from spladerunner.evaluation.rows import COMPARISON, INDEX, SPEED, Row, measure_figure
from spladerunner.evaluation.systems import (
    BASELINE,
    UNPRUNED,
    Progress,
    Pruning,
    System,
    evaluate_bm25,
    evaluate_model,
    system_name,
)
from spladerunner.expander import Expander

SCHEMA = 2
"""The version of result.json. 2: `judgments` and `caveats`, in schema 1 `judgements` and `warnings`."""

LONGEST_RUN_NAME = 55
"""Characters of a system's name in that of its run: file systems allow 255 bytes, and a character takes up to four."""

PACKAGES = ("spladerunner", "onnxruntime", "ir-measures", "pytrec-eval-terrier", "bm25s", "scipy")
"""Packages whose versions are recorded, since figures may depend on them."""


@dataclass(frozen=True)
class Evaluation:
    """The systems evaluated on a collection.

    model_systems: every model with every pruning, in the order requested. bm25, bm25_index: the baseline and its index.
    caveats: what changes or may change a figure.
    """

    collection: Collection
    model_systems: Sequence[System]
    bm25: System
    bm25_index: BM25
    caveats: tuple[Caveat, ...]

    @property
    def systems(self) -> list[System]:
        """All systems, BM25 last."""
        return [*self.model_systems, self.bm25]

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

    def against_bm25(self, system: System) -> Comparison:
        """Compares a system's nDCG@10 with BM25's."""
        return compare(system.scores[MAIN], self.bm25.scores[MAIN])

    def rows(self) -> dict[str, list[Row]]:
        """All figures, a cell for each of `systems`, in the groups measures, against_bm25, index and speed."""
        compared = [*map(self.against_bm25, self.model_systems), None]
        return {
            "measures": [measure_figure(name).row(self.systems) for name in self.bm25.scores],
            "against_bm25": [figure.row(compared) for figure in COMPARISON],
            "index": [figure.row(self.systems) for figure in INDEX],
            "speed": [figure.row(self.systems) for figure in SPEED],
        }

    def notes(self) -> list[str]:
        """Definitions of the figures, a line each."""
        also = f"; {EXPONENTIAL.partition(', ')[2]} is reported separately" if EXPONENTIAL in self.bm25.scores else ""
        return [
            f"nDCG uses the grade as gain, as trec_eval does{also}.",
            "FLOPS: expected number of tokens that a query and a document share.",
            "Posting reads: FLOPS × documents, as every posting list of a query's tokens is read to its end.",
            f"BM25: k1 {K1}, b {B}, English stemming and stop words; its documents per second are stemmed and indexed.",
            f"p: {SIGNIFICANCE_TEST}, not corrected for the number of systems.",
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
            "significance_test": SIGNIFICANCE_TEST,
            "posting_bytes": POSTING_BYTES,
            "systems": systems,
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
    *,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluates BM25, and every model with every pruning of its documents.

    names: of the models; unless given, their own. progress: called with a line that says what runs now.
    Raises ValueError if two systems have one name, and what Expander.encode raises.

    >>> documents = {"d1": "Trout live in cold rivers.", "d2": "A bank lends money."}
    >>> collection = Collection("two", "test", documents, {"q1": "where do trout live"}, {"q1": {"d1": 1}})
    >>> evaluation = evaluate(collection, [Expander()], [UNPRUNED, Pruning(top=8)])
    >>> [(system.name, system.mean("nDCG@10")) for system in evaluation.systems]
    [('tiny-en', 1.0), ('tiny-en, top 8', 1.0), ('BM25', 1.0)]
    """
    names = [expander.name for expander in expanders] if names is None else names
    called = [BASELINE, *(system_name(name, pruning) for name in names for pruning in prunings)]
    if len(set(called)) < len(called):
        raise ValueError(f"systems must differ in name, but they are called {called}")
    progress = progress or (lambda _: None)
    progress(f"BM25: {len(collection.documents):,} documents")
    bm25, index = evaluate_bm25(collection)
    systems: list[System] = []
    for name, expander in zip(names, expanders, strict=True):
        progress(f"{name}: {len(collection.documents):,} documents, {len(collection.queries):,} queries")
        systems += evaluate_model(collection, expander, prunings, name=name, progress=progress)
    empty = [
        Caveat(f"queries that retrieve nothing by {system.name}, counted as 0 (as by trec_eval -c)", count)
        for system in (*systems, bm25)
        if (count := sum(not ranking.documents.size for ranking in system.rankings))
    ]
    return Evaluation(collection, systems, bm25, index, (*collection.caveats, *empty))
