"""The report: a self-contained HTML page that needs no network and no server."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from spladerunner.evaluation import charts
from spladerunner.evaluation.index_statistics import BIN_WIDTH
from spladerunner.evaluation.measures import MAIN
from spladerunner.evaluation.query_analysis import analyze_queries
from spladerunner.evaluation.results import Evaluation
from spladerunner.evaluation.rows import megabytes
from spladerunner.evaluation.systems import UNPRUNED, System
from spladerunner.expander import Expander
from spladerunner.templating import render

MODEL_COLORS = [name for name in charts.COLORS if name.startswith("model")]
"""Further models take them again from the start."""

TILES = (MAIN, "MRR@10", "recall@1000", "index_bytes", "posting_reads_per_query")
"""Rows shown large at the top of the page."""

SNIPPET = 320
"""Characters shown of a query or a document."""


class Histogram(NamedTuple):
    """A histogram with its title, mean and median."""

    name: str
    mean: float
    median: float
    svg: Markup


def page(evaluation: Evaluation, expander: Expander) -> str:
    """Renders the page. expander: the first system's model, whose wins and losses are shown query by query."""
    system = evaluation.model_systems[0]
    rows = evaluation.rows()
    by_key = {row.key: row for group in rows.values() for row in group}
    scores = system.scores[MAIN] - evaluation.bm25.scores[MAIN]
    colors = _colors(evaluation)
    return render(
        __package__,
        "report.html",
        evaluation=evaluation,
        system=system,
        against=evaluation.against_bm25(system),
        measure=MAIN,
        rows=rows,
        p=by_key["p"].cells[0],
        tiles=[by_key[key] for key in TILES],
        models=colors,
        quality_against_size=[Markup(svg) for svg in _quality_against_size(evaluation, colors)],
        distributions={
            unpruned.model: _histograms(unpruned)
            for unpruned in evaluation.model_systems
            if unpruned.pruning == UNPRUNED
        },
        differences=[Markup(svg) for svg in charts.differences(scores, MAIN)],
        analyses=analyze_queries(evaluation, expander),
        snippet=SNIPPET,
    )


def _colors(evaluation: Evaluation) -> dict[str, str]:
    """The color of each model, {name: key of COLORS}."""
    models = dict.fromkeys(system.model for system in evaluation.model_systems if system.model is not None)
    return {model: MODEL_COLORS[at % len(MODEL_COLORS)] for at, model in enumerate(models)}


def _quality_against_size(evaluation: Evaluation, colors: dict[str, str]) -> list[str]:
    """The chart in both widths; nothing if an index is empty, as the scale is logarithmic."""

    def point(system: System) -> charts.Point:
        pruning = system.pruning
        if system.model is None:
            label = system.name
        elif pruning == UNPRUNED:
            label = "all"
        else:
            label = str(pruning.top) if pruning.min_weight is None else f"≥ {pruning.min_weight:g}"
        return charts.Point(
            label,
            f"{system.name}: {MAIN} {system.mean(MAIN):.3f}, {megabytes(system.documents.bytes)}",
            system.documents.bytes,
            system.mean(MAIN),
            "bm25" if system.model is None else colors[system.model],
            str(pruning).partition(" ")[0],
        )

    points = [point(system) for system in evaluation.model_systems if system.documents.bytes]
    if not points or not evaluation.bm25.documents.bytes:
        return []
    return charts.quality_against_size(points, point(evaluation.bm25), MAIN)


def _histograms(system: System) -> list[Histogram]:
    drawn = (
        ("Weights per document", system.documents.lengths, 1.0),
        ("Weights per query", system.queries.lengths, 1.0),
        ("Document weights", system.documents.weights, BIN_WIDTH),
        ("Query weights", system.queries.weights, BIN_WIDTH),
    )
    return [_histogram(f"{name}, {system.name}", name, counts, width) for name, counts, width in drawn if counts.any()]


def _histogram(salt: str, name: str, counts: NDArray[np.int64], bin_width: float) -> Histogram:
    centers = (np.arange(len(counts)) + (0 if bin_width == 1 else 0.5)) * bin_width
    return Histogram(
        name,
        float(np.average(centers, weights=counts)),
        float(centers[np.searchsorted(np.cumsum(counts), counts.sum() / 2)]),
        Markup(charts.histogram(salt, counts, bin_width)),
    )
