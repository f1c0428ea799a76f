"""The report: one page that needs nothing beside it, no network and no server."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files

from spladerunner.evaluation import charts
from spladerunner.evaluation.index_statistics import BIN, posting_reads
from spladerunner.evaluation.measures import MAIN
from spladerunner.evaluation.query_analysis import decisions
from spladerunner.evaluation.report_queries import queries_section, signed
from spladerunner.evaluation.results import Evaluation, megabytes, probability
from spladerunner.evaluation.systems import UNPRUNED, System
from spladerunner.expander import Expander
from spladerunner.markup import escaped

COLOURS = 6


def page(evaluation: Evaluation, expander: Expander) -> str:
    """The page. expander: of the first system's model, whose wins and losses are shown query by query."""
    resources = files(__package__)
    style, script = ((resources / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    collection = evaluation.collection
    heading = f"{collection.name}, {collection.split}"
    warnings = "".join(f"<li>{escaped(str(warning))}</li>" for warning in evaluation.warnings)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escaped(heading)}: retrieval quality</title>\n<style>\n{style}</style></head>\n<body><main>\n"
        f"<header><h1>{escaped(heading)}</h1><p class=quiet>{escaped(evaluation.size())}</p>"
        f"<p class=lead>{escaped(evaluation.systems[0].name)} beside BM25</p></header>\n"
        f"{_tiles(evaluation)}\n"
        + (
            f'<section class="warnings"><h2>To be known of these figures</h2><ul>{warnings}</ul></section>'
            * bool(warnings)
        )
        + f"\n{_systems(evaluation)}\n{_sizes(evaluation)}\n{_distributions(evaluation)}\n"
        f"{queries_section(evaluation, decisions(evaluation, expander))}\n"
        f"<footer>{''.join(f'<p>{escaped(note)}</p>' for note in evaluation.notes())}</footer>"
        f"</main>\n<script>\n{script}</script></body></html>\n"
    )


def _tiles(evaluation: Evaluation) -> str:
    """The first system's figures beside BM25's."""
    system, bm25 = evaluation.systems[0], evaluation.bm25
    against = evaluation.against_bm25(system)
    p = probability(against.p)
    p = f"p {p}" if against.p is None or p.startswith("<") else f"p = {p}"
    tiles = [
        (MAIN, f"{system.mean(MAIN):.3f}", f"{signed(against.difference)} against BM25’s {bm25.mean(MAIN):.3f} ({p})"),
        ("MRR@10", f"{system.mean('MRR@10'):.3f}", f"BM25 {bm25.mean('MRR@10'):.3f}"),
        ("recall@1000", f"{system.mean('recall@1000'):.3f}", f"BM25 {bm25.mean('recall@1000'):.3f}"),
        ("index", megabytes(system.documents.bytes), f"BM25 {megabytes(bm25.documents.bytes)}"),
        (
            "posting reads a query",
            f"{posting_reads(system.documents, system.queries):,.0f}",
            f"BM25 {posting_reads(bm25.documents, bm25.queries):,.0f}",
        ),
    ]
    drawn = "".join(f"<div><dt>{name}</dt><dd>{value}</dd><dd>{beside}</dd></div>" for name, value, beside in tiles)
    return f'<dl class="tiles">{drawn}</dl>'


def _systems(evaluation: Evaluation) -> str:
    systems = [*evaluation.systems, evaluation.bm25]
    compared = [evaluation.against_bm25(system) for system in evaluation.systems]
    rows = []
    for name in evaluation.bm25.scores:
        means = [system.mean(name) for system in systems]
        cells = "".join(
            f"<td{' class=best' if round(mean, 3) == round(max(means), 3) else ''}>{mean:.3f}</td>" for mean in means
        )
        rows.append(f"<tr><th scope=row>{escaped(name)}</th>{cells}</tr>")
    rows += [
        _row(f"{MAIN} against BM25", [*(signed(row.difference) for row in compared), ""], group=True),
        _row("p", [*(probability(row.p) for row in compared), ""]),
        _row("queries better : worse", [*(f"{row.better:,} : {row.worse:,}" for row in compared), ""]),
        _row("weights a document", (f"{system.documents.mean_length:.1f}" for system in systems), group=True),
        _row("weights a query", (f"{system.queries.mean_length:.1f}" for system in systems)),
        _row("postings", (f"{system.documents.postings:,}" for system in systems)),
        _row("index", (megabytes(system.documents.bytes) for system in systems)),
        _row(
            "posting reads a query", (f"{posting_reads(system.documents, system.queries):,.0f}" for system in systems)
        ),
        _row("documents a second", (f"{system.documents_per_second:,.0f}" for system in systems)),
        _row("queries a second", (f"{system.queries_per_second:,.0f}" for system in systems)),
        _row("exact search, ms a query", (f"{system.search_milliseconds:.2f}" for system in systems)),
    ]
    head = "".join(
        f"<th scope=col>{escaped(system.model or system.name)}<br>{escaped(str(system.pruning))}</th>"
        for system in systems
    )
    return (
        "<section><h2>Systems</h2><p class=note>The best of each measure is bold. An index is counted as 8 bytes a "
        "posting, uncompressed.</p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Systems"><table class="systems">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _row(name: str, cells: Iterable[str], *, group: bool = False) -> str:
    drawn = "".join(f"<td>{cell}</td>" for cell in cells)
    return f"<tr{' class=group' if group else ''}><th scope=row>{name}</th>{drawn}</tr>"


def _sizes(evaluation: Evaluation) -> str:
    models = list(dict.fromkeys(system.model for system in evaluation.systems))
    points = [
        charts.Point(
            system.name,
            _short(system),
            system.documents.bytes,
            system.mean(MAIN),
            None if system.model is None else models.index(system.model) % COLOURS,
            str(system.pruning).partition(" ")[0],
        )
        for system in (*evaluation.systems, evaluation.bm25)
        if system.documents.bytes
    ]
    if not points:
        return ""
    legend = "".join(f'<li class="c{at % COLOURS}">{escaped(str(model))}</li>' for at, model in enumerate(models))
    return (
        "<section><h2>Quality against index size</h2><p class=note>Each point is the collection indexed with every "
        "document’s weights (all), its heaviest (a number), or those of at least a weight (≥). The dashed line is "
        "BM25’s quality.</p>"
        f'<ul class="legend">{legend}<li class="bm25">BM25</li></ul>{charts.scatter(points, megabytes, MAIN)}'
        f'<p class="quiet axis">index size; upwards {MAIN}</p></section>'
    )


def _short(system: System) -> str:
    if system.model is None:
        return "BM25"
    pruning = system.pruning
    if pruning == UNPRUNED:
        return "all"
    return f"{pruning.top}" if pruning.min_weight is None else f"≥{pruning.min_weight:g}"


def _distributions(evaluation: Evaluation) -> str:
    whole = {system.model: system for system in evaluation.systems if system.pruning == UNPRUNED}
    drawn = ""
    for model, system in whole.items():
        title = f"<h3>{escaped(str(model))}</h3>" if len(whole) > 1 else ""
        drawn += (
            f'{title}<div class="histograms">'
            + charts.histogram(system.documents.lengths, 1, "Weights a document", "")
            + charts.histogram(system.queries.lengths, 1, "Weights a query", "")
            + charts.histogram(system.documents.weights, BIN, "A document’s weight", "")
            + charts.histogram(system.queries.weights, BIN, "A query’s weight", "")
            + "</div>"
        )
    return f"<section><h2>Weights and lengths</h2>{drawn}</section>"
