"""Why a document answers a query: the tokens that both share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from spladerunner.errors import MissingExtraError
from spladerunner.inference.tokenizer import Span


class SharedToken(NamedTuple):
    """A token with a weight on both sides; product = query_weight × document_weight."""

    token: str
    query_weight: float
    document_weight: float
    product: float


@dataclass(frozen=True)
class Explanation:
    """The shared tokens of a query and a document, largest product first; their sum is the score.

    query_weights, document_weights: all tokens of either side, {token: weight}, heaviest first.
    spans: where the document's own tokens stand in it, in order. read: how many of its characters the model reads.
    """

    query: str
    document: str
    shared: tuple[SharedToken, ...]
    query_weights: Mapping[str, float] = field(default_factory=dict, hash=False, repr=False)
    document_weights: Mapping[str, float] = field(default_factory=dict, hash=False, repr=False)
    spans: tuple[Span, ...] = field(default=(), repr=False)
    read: int = field(default=0, repr=False)

    @property
    def score(self) -> float:
        """The dot product of the two vectors."""
        return sum(match.product for match in self.shared)

    def html(self) -> str:
        """Renders an HTML fragment: the weighted document, its expansions, and the shared tokens.

        The style is scoped, there is no script, and every text is escaped.
        Raises MissingExtraError if Jinja2 is not installed (extra `html`).
        """
        from spladerunner.explanation_page import fragment

        return fragment(self)

    def _repr_html_(self) -> str | None:
        """The fragment for notebooks. None if Jinja2 is not installed, which makes IPython show the plain repr."""
        try:
            return self.html()
        except MissingExtraError:
            return None
