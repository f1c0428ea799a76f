"""Several collections: the mean of each measure over them, each counting the same, and their results in one folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from spladerunner.atomic_file import write_atomically
from spladerunner.evaluation.results import SCHEMA, Evaluation
from spladerunner.evaluation.rows import Figure, Row


@dataclass(frozen=True)
class Means:
    """Evaluations of the same systems on several collections."""

    evaluations: Sequence[Evaluation]

    @property
    def systems(self) -> list[str]:
        """The names of the systems, BM25 first."""
        return [system.name for system in self.evaluations[0].systems]

    def rows(self) -> list[Row]:
        """The mean of each measure that all collections have, a cell for each system."""
        common = [
            name for name in self.evaluations[0].bm25.scores if all(name in e.bm25.scores for e in self.evaluations)
        ]
        return [self._row(name, name) for name in common]

    def _row(self, key: str, label: str) -> Row:
        def mean(at: int) -> float:
            return float(np.mean([evaluation.systems[at].mean(key) for evaluation in self.evaluations]))

        return Figure(key, label, mean, "{:.3f}".format, higher_is_better=True).row(range(len(self.systems)))

    def folders(self) -> list[str]:
        """A folder's name for each collection: its own, numbered where two are the same."""
        names: list[str] = []
        for evaluation in self.evaluations:
            name, number = evaluation.collection.name, 1
            while name.casefold() in map(str.casefold, names):
                number += 1
                name = f"{evaluation.collection.name}~{number}"
            names.append(name)
        return names

    def record(self) -> dict[str, Any]:
        """The content of means.json."""
        return {
            "schema": SCHEMA,
            "collections": self.folders(),
            "means": {
                name: {row.key: row.cells[at].value for row in self.rows()} for at, name in enumerate(self.systems)
            },
        }

    def save(self, folder: str | PathLike[str]) -> None:
        """Writes a folder for each collection, as Evaluation.save does, and means.json."""
        for name, evaluation in zip(self.folders(), self.evaluations, strict=True):
            evaluation.save(Path(folder) / name)
        write_atomically(Path(folder) / "means.json", json.dumps(self.record(), indent=1) + "\n")
