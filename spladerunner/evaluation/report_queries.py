"""The report's last section: the queries that the first system answers better or worse than BM25, one by one."""

from __future__ import annotations

from collections.abc import Sequence

from spladerunner.evaluation import charts
from spladerunner.evaluation.measures import MAIN
from spladerunner.evaluation.query_analysis import Decision, Judged, Token
from spladerunner.evaluation.results import Evaluation
from spladerunner.markup import escaped

SNIPPET = 320
"""How many characters of a document or a query are shown."""


def queries_section(evaluation: Evaluation, shown: Sequence[Decision]) -> str:
    """The section, with a chart over all queries and a list of those shown."""
    system = evaluation.systems[0]
    against = evaluation.against_bm25(system)
    name = escaped(system.name)
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
        f'<details class="decision" data-kind="{kind}"><summary><b class="{kind}">{signed(decision.difference, 3)}</b>'
        f'<span class="asked">{_snippet(decision.query)}</span><span class="figures">{decision.model_score:.3f}, BM25 '
        f"{decision.bm25_score:.3f}</span></summary>"
        f'<div class="inside">{_document("Relevant", decision.relevant, name)}{rival}'
        f"{_tokens(name, decision.model_tokens)}{_tokens('BM25', decision.bm25_tokens)}</div></details>"
    )


def _document(kind: str, document: Judged, name: str) -> str:
    return (
        f"<article><h3>{kind}: {escaped(document.identifier)}</h3><p class=quiet>{escaped(name)} "
        f"{_ranked(document.model_rank)}, BM25 {_ranked(document.bm25_rank)}</p>"
        f"<p>{_snippet(document.text)}</p></article>"
    )


def _ranked(rank: int | None) -> str:
    return "does not find it" if rank is None else f"ranks it {rank:,}"


def _tokens(name: str, tokens: Sequence[Token]) -> str:
    widest = max((abs(token.margin) for token in tokens), default=0) or 1
    rows = "".join(
        f"<tr><th scope=row>{'' if token.said else '+ '}{escaped(token.token)}</th>"
        f'<td><div class="margin"><i class="{"better" if token.margin > 0 else "worse"}" '
        f'style="width:{50 * abs(token.margin) / widest:.1f}%"></i></div></td>'
        f'<td title="{token.relevant:.2f} less {token.rival:.2f}">{signed(token.margin, 2)}</td></tr>'
        for token in tokens
    )
    return (
        f"<table class=tokens><caption>{escaped(name)}: for and against the relevant one</caption>"
        f"<tbody>{rows or '<tr><td class=quiet>no word of the query is in either</td></tr>'}</tbody></table>"
    )


def _snippet(text: str) -> str:
    return escaped(text[:SNIPPET]) + ("…" if len(text) > SNIPPET else "")


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign."""
    return f"{value:+.{digits}f}".replace("-", "−")
