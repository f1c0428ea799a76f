"""HTML of an explanation: the document with its tokens weighted in place, its expansions, and the shared tokens."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from spladerunner.explanation import Explanation
from spladerunner.templating import render

SHOWN = 40
"""Expansions listed before the rest is folded."""

UNREAD_SHOWN = 1000
"""Characters shown of the text beyond the model's maximum length."""


class Piece(NamedTuple):
    """A piece of the document's text, with its token and weight; "" and 0 between tokens."""

    text: str
    token: str = ""
    weight: float = 0.0


def page(explanation: Explanation) -> str:
    """Renders a self-contained page. Raises MissingExtraError if Jinja2 is not installed."""
    return _render("explanation_page.html", explanation)


def fragment(explanation: Explanation) -> str:
    """Renders an element for any page: scoped style, no script. Raises MissingExtraError if Jinja2 is not installed."""
    return _render("explanation.html", explanation)


def _render(template: str, explanation: Explanation) -> str:
    own = {span.token for span in explanation.spans}
    read = explanation.read if explanation.spans else len(explanation.document)
    return render(
        "spladerunner",
        template,
        explanation=explanation,
        pieces=list(_pieces(explanation, read)),
        unread=explanation.document[read:],
        unread_shown=UNREAD_SHOWN,
        own=own,
        shared={match.token for match in explanation.shared},
        expansions=[(token, weight) for token, weight in explanation.document_weights.items() if token not in own],
        shown=SHOWN,
        heaviest=max(explanation.document_weights.values(), default=1.0),
    )


def _pieces(explanation: Explanation, read: int) -> Iterator[Piece]:
    """Splits the text that the model reads into tokens and the text between them."""
    text, weights = explanation.document, explanation.document_weights
    done = 0
    for (start, end), spans in groupby(explanation.spans, key=lambda span: (span.start, span.end)):
        if start < done:  # a further byte of a character that is done
            continue
        token = max((span.token for span in spans), key=lambda token: weights.get(token, 0.0))
        yield Piece(text[done:start])
        yield Piece(text[start:end], token, weights.get(token, 0.0))
        done = end
    yield Piece(text[done:read])
