"""The report: a self-contained HTML page that needs no network and no server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from spladerunner.evaluation import charts
from spladerunner.evaluation.index_statistics import BIN_WIDTH
from spladerunner.evaluation.measures import EXPONENTIAL
from spladerunner.evaluation.query_analysis import LIMIT, QueryAnalysis, analyze_queries
from spladerunner.evaluation.results import Evaluation, Pair
from spladerunner.evaluation.rows import megabytes, probability
from spladerunner.evaluation.systems import UNPRUNED, System
from spladerunner.expander import Expander
from spladerunner.templating import render, signed

MODEL_COLORS = [name for name in charts.COLORS if name.startswith("model")]
"""Further models take them again from the start."""

TILES = ("index_bytes", "posting_reads_per_query")
"""Rows shown large at the top of the page, after measures."""

SNIPPET = 320
"""Characters shown of a query or a document."""


class Histogram(NamedTuple):
    """A histogram with its title, mean and median."""

    name: str
    mean: float
    median: float
    svg: Markup


def page(evaluation: Evaluation, expanders: Mapping[str, Expander]) -> str:
    """Renders the page. expanders: of each model, {name: expander}, for the tokens that decide a query."""
    system = evaluation.model_systems[0]
    rows = evaluation.rows()
    by_key = {row.key: row for group in rows.values() for row in group}
    measures = [name for name in evaluation.bm25.scores if name != EXPONENTIAL]
    colors = _colors(evaluation)
    places = {system.name: at for at, system in enumerate(evaluation.systems)}
    analyses = analyze_queries(evaluation, expanders)
    return render(
        __package__,
        "report.html",
        evaluation=evaluation,
        system=system,
        against=evaluation.against_bm25(system),
        measure=evaluation.main,
        rows=rows,
        p=by_key["p_holm"].cells[1],
        tiles=[by_key[key] for key in dict.fromkeys([*measures[:2], measures[-1], *TILES])],
        colors=colors,
        quality_against_size=[Markup(svg) for svg in _quality_against_size(evaluation, colors)],
        distributions={
            unpruned.model: _histograms(unpruned, colors[unpruned.model])
            for unpruned in evaluation.model_systems
            if unpruned.unpruned and unpruned.model
        },
        analyses=analyses,
        data={
            "measure": evaluation.main,
            "systems": list(places),
            "scores": [system.scores[evaluation.main].round(4).tolist() for system in evaluation.systems],
            "pairs": {
                f"{places[pair.system]}-{places[pair.other]}": _in_words(pair, evaluation) for pair in evaluation.pairs
            },
            "queries": [_compact(analysis) for analysis in analyses],
        },
        analysis_limit=LIMIT,
        snippet=SNIPPET,
    )


def _in_words(pair: Pair, evaluation: Evaluation) -> str:
    compared = pair.comparison
    p = "not defined" if compared.p_holm is None else probability(compared.p_holm)
    return (
        f"{pair.system} minus {pair.other}: {signed(compared.difference, 3)} {evaluation.main}, p {p} after Holm’s "
        f"correction. Better on {compared.better:,}, worse on {compared.worse:,}, equal on {compared.equal:,} queries."
    )


def _compact(analysis: QueryAnalysis) -> dict[str, Any]:
    """An analysis as the page's script reads it."""
    return {
        "text": _shortened(analysis.query),
        "scores": [round(score, 4) for score in analysis.scores],
        "documents": [
            {"id": document.identifier, "text": _shortened(document.text), "ranks": document.ranks}
            for document in analysis.documents
        ],
        "relevant": analysis.relevant,
        "nonrelevant": analysis.nonrelevant,
        "contributions": [
            [[token, own, [round(share, 3) for share in shares]] for token, own, shares in row]
            for row in analysis.contributions
        ],
    }


def _shortened(text: str) -> str:
    return text if len(text) <= SNIPPET else f"{text[:SNIPPET]}…"


def _colors(evaluation: Evaluation) -> dict[str, str]:
    """The color of each model, {name: key of COLORS}."""
    models = dict.fromkeys(system.model for system in evaluation.model_systems if system.model is not None)
    return {model: MODEL_COLORS[at % len(MODEL_COLORS)] for at, model in enumerate(models)}


def _quality_against_size(evaluation: Evaluation, colors: dict[str, str]) -> list[str]:
    """The chart in both widths; nothing if an index is empty, as the scale is logarithmic."""
    main = evaluation.main

    def point(system: System) -> charts.Point:
        pruning = system.pruning
        if system.model is None:
            label = system.name
        elif system.fusion:
            label = "fused"
        elif pruning == UNPRUNED:
            label = "all"
        elif pruning.max_ratio is not None:
            label = f"≥ {pruning.max_ratio:g} ×"
        else:
            label = str(pruning.top) if pruning.min_weight is None else f"≥ {pruning.min_weight:g}"
        return charts.Point(
            label,
            f"{system.name}: {main} {system.mean(main):.3f}, {megabytes(system.documents.bytes)}",
            system.documents.bytes,
            system.mean(main),
            "bm25" if system.model is None else colors[system.model],
            None if system.fusion or system.query_pruning != UNPRUNED else str(pruning).partition(" ")[0],
        )

    points = [point(system) for system in evaluation.model_systems if system.documents.bytes]
    if not points or not evaluation.bm25.documents.bytes:
        return []
    return charts.quality_against_size(points, point(evaluation.bm25), main)


def _histograms(system: System, color: str) -> list[Histogram]:
    drawn = (
        ("Weights per document", system.documents.lengths, 1.0),
        ("Weights per query", system.queries.lengths, 1.0),
        ("Document weights", system.documents.weights, BIN_WIDTH),
        ("Query weights", system.queries.weights, BIN_WIDTH),
    )
    return [
        _histogram(f"{name}, {system.name}", name, counts, width, color)
        for name, counts, width in drawn
        if counts.any()
    ]


def _histogram(salt: str, name: str, counts: NDArray[np.int64], bin_width: float, color: str) -> Histogram:
    centers = (np.arange(len(counts)) + (0 if bin_width == 1 else 0.5)) * bin_width
    return Histogram(
        name,
        float(np.average(centers, weights=counts)),
        float(centers[np.searchsorted(np.cumsum(counts), counts.sum() / 2)]),
        Markup(charts.histogram(salt, counts, bin_width, color)),
    )
