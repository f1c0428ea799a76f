"""The report: one page that needs nothing beside it, no network and no server."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from spladerunner.evaluation import charts
from spladerunner.evaluation.decisions import Decision, Judged, Token, decisions
from spladerunner.evaluation.evaluation import Evaluation, megabytes, probability
from spladerunner.evaluation.footprint import BIN, posting_reads
from spladerunner.evaluation.measures import MAIN
from spladerunner.evaluation.systems import UNPRUNED, System
from spladerunner.expander import Expander

SNIPPET = 320
"""How many characters of a document or a query are shown."""

COLOURS = 6


def page(evaluation: Evaluation, expander: Expander) -> str:
    """The page. expander: of the first system's model, whose wins and losses are shown query by query."""
    resources = files(__package__)
    style, script = ((resources / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    collection = evaluation.collection
    heading = f"{collection.name}, {collection.split}"
    warnings = "".join(f"<li>{_escaped(str(warning))}</li>" for warning in evaluation.warnings)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{_escaped(heading)}: retrieval quality</title>\n<style>\n{style}</style></head>\n<body><main>\n"
        f"<header><h1>{_escaped(heading)}</h1><p class=quiet>{_escaped(evaluation.size())}</p>"
        f"<p class=lead>{_escaped(evaluation.systems[0].name)} beside BM25</p></header>\n"
        f"{_tiles(evaluation)}\n"
        + (
            f'<section class="warnings"><h2>To be known of these figures</h2><ul>{warnings}</ul></section>'
            * bool(warnings)
        )
        + f"\n{_systems(evaluation)}\n{_sizes(evaluation)}\n{_distributions(evaluation)}\n"
        f"{_queries(evaluation, decisions(evaluation, expander))}\n"
        f"<footer>{''.join(f'<p>{_escaped(note)}</p>' for note in evaluation.notes())}</footer>"
        f"</main>\n<script>\n{script}</script></body></html>\n"
    )


def _tiles(evaluation: Evaluation) -> str:
    """The first system's figures beside BM25's."""
    system, bm25 = evaluation.systems[0], evaluation.bm25
    against = evaluation.against_bm25(system)
    p = probability(against.p)
    p = f"p {p}" if against.p is None or p.startswith("<") else f"p = {p}"
    tiles = [
        (MAIN, f"{system.mean(MAIN):.3f}", f"{_signed(against.difference)} against BM25’s {bm25.mean(MAIN):.3f} ({p})"),
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
        rows.append(f"<tr><th scope=row>{_escaped(name)}</th>{cells}</tr>")
    rows += [
        _row(f"{MAIN} against BM25", [*(_signed(row.difference) for row in compared), ""], group=True),
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
        f"<th scope=col>{_escaped(system.model or system.name)}<br>{_escaped(str(system.pruning))}</th>"
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
    legend = "".join(f'<li class="c{at % COLOURS}">{_escaped(str(model))}</li>' for at, model in enumerate(models))
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
        title = f"<h3>{_escaped(str(model))}</h3>" if len(whole) > 1 else ""
        drawn += (
            f'{title}<div class="histograms">'
            + charts.histogram(system.documents.lengths, 1, "Weights a document", "")
            + charts.histogram(system.queries.lengths, 1, "Weights a query", "")
            + charts.histogram(system.documents.weights, BIN, "A document’s weight", "")
            + charts.histogram(system.queries.weights, BIN, "A query’s weight", "")
            + "</div>"
        )
    return f"<section><h2>Weights and lengths</h2>{drawn}</section>"


def _queries(evaluation: Evaluation, shown: Sequence[Decision]) -> str:
    system = evaluation.systems[0]
    against = evaluation.against_bm25(system)
    name = _escaped(system.name)
    all_differences = system.scores[MAIN] - evaluation.bm25.scores[MAIN]
    kinds = "".join(
        f'<label><input type="radio" name="kind" value="{value}"{" checked" * (value == "all")}>{label}</label>'
        for value, label in (("all", "All"), ("better", "Wins"), ("worse", "Losses"))
    )
    listed = "".join(_decision(decision, system.name) for decision in shown)
    unshown = against.better + against.worse - len(shown)
    return (
        f"<section><h2>{name} against BM25, query by query</h2>"
        f'<p class="note">Better on <span class="better">{against.better:,}</span> queries, worse on '
        f'<span class="worse">{against.worse:,}</span>, equal on {against.equal:,}. A bar is a query, and its height '
        f"the difference in {MAIN}.</p>"
        f'<div class="differences" role="img" aria-label="{against.better} queries better, {against.worse} worse">'
        f"{charts.differences(all_differences.tolist())}</div>"
        "<p class=note>Open a query for the relevant document that the better system ranks best, the other system’s "
        "first one that is not relevant, and the tokens that told them apart. A + marks a token that the query never "
        f"says.{f' Of the smallest differences, {unshown:,} are not listed.' if unshown else ''}</p>"
        '<form class="filter" role="search" hidden><input type="search" '
        'aria-label="Search queries, tokens and documents" '
        f'placeholder="Search queries, tokens, documents"><fieldset><legend>Which queries</legend>{kinds}</fieldset>'
        f'<output aria-live="polite"></output></form>{listed}<p class="none" hidden>No query fits.</p></section>'
    )


def _decision(decision: Decision, name: str) -> str:
    kind = "better" if decision.difference > 0 else "worse"
    rival = "" if decision.rival is None else _document("Not relevant", decision.rival, name)
    return (
        f'<details class="decision" data-kind="{kind}"><summary><b class="{kind}">{_signed(decision.difference, 3)}</b>'
        f'<span class="asked">{_snippet(decision.query)}</span><span class="figures">{decision.model_score:.3f}, BM25 '
        f"{decision.bm25_score:.3f}</span></summary>"
        f'<div class="inside">{_document("Relevant", decision.relevant, name)}{rival}'
        f"{_tokens(name, decision.model_tokens)}{_tokens('BM25', decision.bm25_tokens)}</div></details>"
    )


def _document(kind: str, document: Judged, name: str) -> str:
    return (
        f"<article><h3>{kind}: {_escaped(document.identifier)}</h3><p class=quiet>{_escaped(name)} "
        f"{_ranked(document.model_rank)}, BM25 {_ranked(document.bm25_rank)}</p>"
        f"<p>{_snippet(document.text)}</p></article>"
    )


def _ranked(rank: int | None) -> str:
    return "does not find it" if rank is None else f"ranks it {rank:,}"


def _tokens(name: str, tokens: Sequence[Token]) -> str:
    widest = max((abs(token.margin) for token in tokens), default=0) or 1
    rows = "".join(
        f"<tr><th scope=row>{'' if token.said else '+ '}{_escaped(token.token)}</th>"
        f'<td><div class="margin"><i class="{"better" if token.margin > 0 else "worse"}" '
        f'style="width:{50 * abs(token.margin) / widest:.1f}%"></i></div></td>'
        f'<td title="{token.relevant:.2f} less {token.rival:.2f}">{_signed(token.margin, 2)}</td></tr>'
        for token in tokens
    )
    return (
        f"<table class=tokens><caption>{_escaped(name)}: for and against the relevant one</caption>"
        f"<tbody>{rows or '<tr><td class=quiet>no word of the query is in either</td></tr>'}</tbody></table>"
    )


def _snippet(text: str) -> str:
    return _escaped(text[:SNIPPET]) + ("…" if len(text) > SNIPPET else "")


def _signed(value: float, digits: int = 3) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def _escaped(text: str) -> str:
    """Text for an element or an attribute; what UTF-8 or HTML cannot hold is replaced."""
    return escape(re.sub("[\0\ud800-\udfff]", "\ufffd", text))
