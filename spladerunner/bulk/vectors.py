"""Vectors: how a job turns texts into vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from spladerunner.expander import Expander
from spladerunner.model.manifest import RoleName
from spladerunner.passages import Passage, joined
from spladerunner.vector import SparseVector

Windows = Literal["max", "passages"]
"""Treatments of the windows of a long text: one record with their maximum, or a record for each."""


@dataclass(frozen=True)
class Vectors:
    """Options of the vectors, all of which a resumed job must share.

    role: of the texts. windows, overlap: how long texts are read; None reads their beginnings.
    min_weight, max_ratio, top: limits of SparseVector.prune.
    """

    role: RoleName = "doc"
    windows: Windows | None = None
    overlap: int | None = None
    min_weight: float | None = None
    max_ratio: float | None = None
    top: int | None = None

    def for_model(self, expander: Expander) -> Vectors:
        """The same with an overlap, if there are windows: by default a quarter of the model's length.

        Raises ValueError if there is an overlap without windows.
        """
        if self.windows is not None and self.overlap is None:
            return replace(self, overlap=expander.max_length[self.role] // 4)
        if self.windows is None and self.overlap is not None:
            raise ValueError(f"overlap={self.overlap} has no effect without windows: give windows='max' or 'passages'")
        return self

    def of(self, expander: Expander, texts: Iterable[str]) -> Iterator[Passage]:
        """Encodes the texts: a passage for each text, or each window of it if windows is "passages"."""
        passages = expander.passages(texts, role=self.role, overlap=self.overlap)
        if self.windows == "max":
            passages = joined(passages, len(expander.vocabulary))
        if self.min_weight is self.max_ratio is self.top is None:
            return passages
        return (passage._replace(vector=self._pruned(passage)) for passage in passages)

    def is_last(self, passage: Passage) -> bool:
        """True if a text has no passage after this one."""
        return self.overlap is None or passage.end == passage.tokens

    def _pruned(self, passage: Passage) -> SparseVector:
        return passage.vector.prune(self.min_weight, max_ratio=self.max_ratio, top=self.top)
