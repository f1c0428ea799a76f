"""The figures of each system, defined once: the terminal's table, result.json and the report read these rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from spladerunner.evaluation.index_statistics import POSTING_BYTES, flops, posting_reads
from spladerunner.evaluation.measures import Comparison
from spladerunner.evaluation.systems import System

Subject = TypeVar("Subject")


class Cell(NamedTuple):
    """A figure of one system: its value in result.json, its text in tables, and a flag if no system has a better one.

    The value is None and the text empty if the system has no such figure.
    """

    value: float | None
    text: str
    best: bool


class Row(NamedTuple):
    """A figure of all systems. key: in result.json. label: in tables. cells: one for each system."""

    key: str
    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Figure(Generic[Subject]):
    """The definition of a row: its key, its label, the value of one subject, and the value's text.

    higher_is_better: None if neither is better.
    """

    key: str
    label: str
    value: Callable[[Subject], float | None]
    text: Callable[[float], str]
    higher_is_better: bool | None = None

    def row(self, subjects: Sequence[Subject | None]) -> Row:
        """Computes the row. A subject of None gets an empty cell.

        >>> length = Figure("length", "characters", len, "{:,}".format, higher_is_better=False)
        >>> [cell.text for cell in length.row(["abc", "x" * 1000, None]).cells]
        ['3', '1,000', '']
        >>> [cell.best for cell in length.row(["abc", "x" * 1000, None]).cells]
        [True, False, False]
        """
        values = [None if subject is None else self.value(subject) for subject in subjects]
        texts = [
            "" if subject is None else "not defined" if value is None else self.text(value)
            for subject, value in zip(subjects, values, strict=True)
        ]
        known = [value for value in values if value is not None]
        best = None
        if self.higher_is_better is not None and known:
            best = self.text(max(known) if self.higher_is_better else min(known))
        return Row(
            self.key,
            self.label,
            tuple(Cell(value, text, text == best) for value, text in zip(values, texts, strict=True)),
        )


def measure_figure(name: str) -> Figure[System]:
    """The mean of a measure over the queries."""
    return Figure(name, name, lambda system: system.mean(name), "{:.3f}".format, higher_is_better=True)


def probability(p: float) -> str:
    """Prints a p-value.

    >>> probability(0.0123), probability(1e-9)
    ('0.0123', '< 0.0001')
    """
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def megabytes(count: float) -> str:
    """Prints a number of bytes in MB, or in kB below 0.1 MB.

    >>> megabytes(2_017_296), megabytes(8)
    ('2.0 MB', '0.0 kB')
    """
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


COMPARISON: tuple[Figure[Comparison], ...] = (
    Figure("difference", "minus BM25's", lambda comparison: comparison.difference, "{:+.3f}".format),
    Figure("p", "p of the difference", lambda comparison: comparison.p, probability),
    Figure("p_holm", "p, corrected by Holm", lambda comparison: comparison.p_holm, probability),
    Figure("better", "queries better than BM25", lambda comparison: comparison.better, "{:,}".format),
    Figure("worse", "queries worse than BM25", lambda comparison: comparison.worse, "{:,}".format),
    Figure("equal", "queries equal to BM25", lambda comparison: comparison.equal, "{:,}".format),
)

INDEX: tuple[Figure[System], ...] = (
    Figure("documents_cut", "documents cut", lambda system: system.documents_cut, "{:,}".format, False),
    Figure("tokens_lost", "tokens cut off", lambda system: system.tokens_lost, "{:.1%}".format, False),
    Figure(
        "weights_per_document", "weights per document", lambda system: system.documents.mean_length, "{:.1f}".format
    ),
    Figure("weights_per_query", "weights per query", lambda system: system.queries.mean_length, "{:.1f}".format),
    Figure("postings", "postings", lambda system: system.documents.postings, "{:,}".format, False),
    Figure(
        "index_bytes",
        f"index, {POSTING_BYTES} bytes a posting",
        lambda system: system.documents.bytes,
        megabytes,
        False,
    ),
    Figure("flops", "FLOPS", lambda system: flops(system.documents, system.queries), "{:.2f}".format, False),
    Figure(
        "posting_reads_per_query",
        "posting reads per query",
        lambda system: posting_reads(system.documents, system.queries),
        "{:,.0f}".format,
        False,
    ),
)


def _latency(percentile: int) -> Figure[System]:
    return Figure(
        f"query_milliseconds_p{percentile}",
        f"a query alone, ms, p{percentile}",
        lambda system: float(np.percentile(system.query_milliseconds, percentile)),
        "{:.2f}".format,
    )


SPEED: tuple[Figure[System], ...] = (
    Figure(
        "documents_per_second", "documents per second", lambda system: system.documents_per_second, "{:,.0f}".format
    ),
    Figure("queries_per_second", "queries per second", lambda system: system.queries_per_second, "{:,.0f}".format),
    *map(_latency, (50, 95, 99)),
    Figure(
        "search_milliseconds_per_query",
        "exact search, ms per query",
        lambda system: system.search_milliseconds,
        "{:.2f}".format,
    ),
)
