"""An explanation as HTML: the document's words weighted in place, its expansions beside them, and the shared tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, islice

from spladerunner.explanation import Explanation, SharedToken
from spladerunner.inference.tokenizer import Span
from spladerunner.markup import escaped

SHOWN = 40
"""How many expansions are shown before the rest is folded away."""

UNREAD_SHOWN = 1000
"""How many characters are shown of what the model does not read."""

_STYLE = """
.spladerunner { color-scheme: light dark; --paper: light-dark(#fff, #15181d); --ink: light-dark(#1b1f24, #e8ebef);
  --quiet: light-dark(#57606a, #9da7b3); --line: light-dark(#dfe3e8, #2f353d); --own: light-dark(#4c8dff, #3b7ddd);
  --new: light-dark(#e8a33d, #b77a1f); box-sizing: border-box; max-width: 66rem; padding: 1.5rem; border-radius: 12px;
  border: 1px solid var(--line); background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; text-align: left; }
[data-jp-theme-light="true"] .spladerunner { color-scheme: light; }
[data-jp-theme-light="false"] .spladerunner, .vscode-dark .spladerunner { color-scheme: dark; }
.spladerunner * { box-sizing: border-box; }
.spladerunner h2 { margin: 0 0 .5rem; font-size: .8125rem; font-weight: 600; color: var(--quiet); }
.spladerunner header { display: flex; gap: 1.5rem; justify-content: space-between; align-items: flex-start; }
.spladerunner header p { margin: 0; font-size: 1.25rem; line-height: 1.35; font-weight: 600; }
.spladerunner .score { flex: none; text-align: right; }
.spladerunner .score p { font-size: 1.75rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.spladerunner .columns { display: flex; flex-wrap: wrap; gap: 1.5rem 2.5rem; margin-top: 1.5rem;
  padding-top: 1.5rem; border-top: 1px solid var(--line); }
.spladerunner .text { flex: 3 1 22rem; min-width: 0; }
.spladerunner .beside { flex: 2 1 15rem; min-width: 0; }
.spladerunner .document { margin: 0; white-space: pre-wrap; font-size: 1.0625rem; line-height: 1.9; }
.spladerunner .document mark { background: color-mix(in srgb, var(--own) calc(var(--w) * 55%), transparent);
  color: inherit; border-radius: 4px; padding: .15em .1em; }
.spladerunner .document .shared { box-shadow: inset 0 -2px var(--ink); border-radius: 4px 4px 0 0; font-weight: 600; }
.spladerunner .unread { margin: .75rem 0 0; padding-left: .75rem; border-left: 3px solid var(--line);
  color: var(--quiet); white-space: pre-wrap; }
.spladerunner .products { overflow-x: auto; overflow-wrap: normal; margin-top: 2rem; }
.spladerunner .note { margin: .75rem 0 0; font-size: .8125rem; color: var(--quiet); }
.spladerunner ul { display: flex; flex-wrap: wrap; gap: .375rem; margin: 0; padding: 0; list-style: none; }
.spladerunner li { margin: 0; padding: .125rem .5rem; border-radius: 6px; font-size: .875rem;
  background: color-mix(in srgb, var(--new) calc(var(--w) * 50% + 6%), transparent); }
.spladerunner li.shared { box-shadow: inset 0 -2px var(--ink); border-radius: 6px 6px 0 0; font-weight: 600; }
.spladerunner li small { font-size: .8125rem; font-weight: 400; font-variant-numeric: tabular-nums; }
.spladerunner summary { margin: .75rem 0; font-size: .8125rem; color: var(--quiet); cursor: pointer; }
.spladerunner table { width: 100%; border-collapse: collapse; background: none; color: inherit; font-size: .9375rem;
  font-variant-numeric: tabular-nums; }
.spladerunner th, .spladerunner td { padding: .3rem 0 .3rem .75rem; text-align: right; background: none;
  border: solid var(--line); border-width: 0 0 1px; }
.spladerunner :is(th, td):first-child { padding-left: 0; text-align: left; font-weight: 600; }
.spladerunner thead th { font-size: .8125rem; font-weight: 600; color: var(--quiet); }
.spladerunner tfoot :is(th, td) { border: 0; font-weight: 600; }
.spladerunner td.bar { width: 40%; }
.spladerunner td.bar i { display: block; height: .625rem; width: calc(var(--w) * 100%); min-width: 2px;
  border-radius: 3px; background: var(--own); }
.spladerunner td.bar i.new { background: var(--new); }
/* Notebooks stripe tables and indent lists with rules of their own. */
.spladerunner.spladerunner ul { padding: 0; }
.spladerunner.spladerunner tr:nth-child(n) { background: none; }
@media (max-width: 30rem) { .spladerunner { padding: 1rem; } .spladerunner table { font-size: .875rem; }
  .spladerunner :is(th, td) { padding-left: .5rem; } .spladerunner td.bar { width: 20%; } }
"""


def page(explanation: Explanation) -> str:
    """The explanation as a page of its own, which needs nothing beside it."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(explanation.query) or 'Explanation'}</title><style>\n"
        ":root { color-scheme: light dark; }\n"
        "body { margin: 0; padding: clamp(.5rem, 3vw, 2.5rem); background: light-dark(#f4f5f7, #0d1014); }\n"
        ".spladerunner { margin: auto; }\n"
        f"</style></head><body><main>{fragment(explanation)}</main></body></html>\n"
    )


def fragment(explanation: Explanation) -> str:
    """The explanation as an element for any page: its style touches nothing else, and there is no script."""
    shared = {match.token for match in explanation.shared}
    own = {span.token for span in explanation.spans}
    expansions = [(token, weight) for token, weight in explanation.document_weights.items() if token not in own]
    heaviest = max(explanation.document_weights.values(), default=1.0)
    return (
        f'<section class="spladerunner"><style>{_STYLE}</style>'
        f"<header><div><h2>Query</h2><p>{escaped(explanation.query) or '(empty)'}</p></div>"
        f'<div class="score"><h2>Score</h2><p>{explanation.score:.2f}</p></div></header>'
        '<div class="columns"><div class="text"><h2>Document</h2>'
        f'<p class="document">{"".join(_document(explanation, shared, heaviest))}</p>'
        f"{_rest(explanation)}"
        '<p class="note">The stronger a word’s background, the more it weighs. Underlined: shared with the query.</p>'
        f'<div class="products"><h2>What both share</h2>{_products(explanation.shared, own)}</div></div>'
        f'<div class="beside"><h2>Words it never says</h2>{_chips(expansions, shared, heaviest)}</div></div></section>'
    )


def _document(explanation: Explanation, shared: set[str], heaviest: float) -> Iterator[str]:
    text, weights = explanation.document, explanation.document_weights
    done = 0
    for (start, end), pieces in groupby(explanation.spans, key=lambda span: (span.start, span.end)):
        if start < done:  # bytes of one character
            continue
        token = max(pieces, key=lambda span: weights.get(span.token, 0.0)).token
        yield escaped(text[done:start])
        yield _weighted(Span(start, end, token), text, weights.get(token, 0.0), heaviest, token in shared)
        done = end
    yield escaped(text[done : len(text) - _unread(explanation)])


def _unread(explanation: Explanation) -> int:
    """How many characters at the document's end are not read; none where it is not known what is."""
    return len(explanation.document) - explanation.read if explanation.spans else 0


def _rest(explanation: Explanation) -> str:
    unread = _unread(explanation)
    if not unread:
        return ""
    shown = explanation.document[explanation.read : explanation.read + UNREAD_SHOWN].strip()
    more = " …" if unread > UNREAD_SHOWN else ""
    return (
        f'<p class="note">The model does not read the last {unread:,} characters:</p>'
        f'<p class="unread">{escaped(shown)}{more}</p>'
    )


def _weighted(span: Span, text: str, weight: float, heaviest: float, shared: bool) -> str:
    words = escaped(text[span.start : span.end])
    if weight <= 0:
        return words
    attributes = ' class="shared"' if shared else ""
    return (
        f'<mark{attributes} style="--w:{weight / heaviest:.2f}" title="{escaped(span.token)} {weight:.2f}">'
        f"{words}</mark>"
    )


def _chips(expansions: list[tuple[str, float]], shared: set[str], heaviest: float) -> str:
    if not expansions:
        return '<p class="note">None.</p>'

    def chips(chosen: Iterable[tuple[str, float]]) -> str:
        return "".join(
            f'<li{" class=shared" if token in shared else ""} style="--w:{weight / heaviest:.2f}">'
            f"{escaped(token)} <small>{weight:.2f}</small></li>"
            for token, weight in chosen
        )

    rest = len(expansions) - SHOWN
    folded = (
        f"<details><summary>and {rest} lighter</summary><ul>{chips(islice(expansions, SHOWN, None))}</ul></details>"
    )
    return f"<ul>{chips(expansions[:SHOWN])}</ul>{folded if rest > 0 else ''}"


def _products(shared: tuple[SharedToken, ...], own: set[str]) -> str:
    if not shared:
        return '<p class="note">No token: the score is 0.</p>'
    largest = max(match.product for match in shared)
    rows = "".join(
        f"<tr><th scope=row>{escaped(match.token)}</th><td>{match.query_weight:.2f}</td>"
        f"<td>{match.document_weight:.2f}</td><td>{match.product:.2f}</td>"
        f'<td class="bar"><i{"" if match.token in own else " class=new"} style="--w:{match.product / largest:.3f}"></i>'
        "</td></tr>"
        for match in shared
    )
    return (
        "<table><thead><tr><th scope=col>token</th><th scope=col>query</th><th scope=col>document</th>"
        f"<th scope=col>product</th><td></td></tr></thead><tbody>{rows}</tbody><tfoot><tr><th scope=row>score</th>"
        f"<td></td><td></td><td>{sum(match.product for match in shared):.2f}</td><td></td></tr></tfoot></table>"
        '<p class="note">Blue: the document’s own words. Amber: words it never says.</p>'
    )
