"""Why a document answers a query: the tokens that both share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class SharedToken(NamedTuple):
    """A token with a weight on both sides; product = query_weight × document_weight."""

    token: str
    query_weight: float
    document_weight: float
    product: float


@dataclass(frozen=True)
class Explanation:
    """The shared tokens of a query and a document, largest product first; their sum is the score."""

    query: str
    document: str
    shared: tuple[SharedToken, ...]

    @property
    def score(self) -> float:
        """The dot product of the two vectors."""
        return sum(match.product for match in self.shared)
