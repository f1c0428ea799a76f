"""Explains a score: the tokens that a query and a document share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from spladerunner.errors import MissingExtraError
from spladerunner.inference.tokenizer import Span


class SharedToken(NamedTuple):
    """A token of both query and document; product = query_weight × document_weight.

    >>> from spladerunner import Expander
    >>> Expander().explain("atomic bomb", "nuclear reactors").shared[0].token
    'nuclear'
    """

    token: str
    query_weight: float
    document_weight: float
    product: float


@dataclass(frozen=True)
class Explanation:
    """The tokens that a query and a document share, largest product first.

    query_weights, document_weights: all tokens of each, {token: weight}, heaviest first.
    spans: positions in the document of the tokens that it consists of, in order.
    read: number of its characters that the model reads, all unless it is cut.

    A notebook shows it as HTML.

    >>> from spladerunner import Expander
    >>> explanation = Expander().explain("atomic bomb", "nuclear reactors")
    >>> explanation.score > 0, explanation.read
    (True, 16)
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
        """The dot product of the two vectors, which is the sum of the products."""
        return sum(match.product for match in self.shared)

    def html(self) -> str:
        """A fragment of HTML with the shared tokens and the document's words by weight; all text is escaped.

        Raises MissingExtraError if Jinja2 is not installed.

        >>> from spladerunner import Expander
        >>> "nuclear" in Expander().explain("atomic bomb", "nuclear reactors").html()
        True
        """
        from spladerunner.explanation_page import fragment

        return fragment(self)

    def _repr_html_(self) -> str | None:
        try:
            return self.html()
        except MissingExtraError:  # the notebook then shows the repr
            return None
