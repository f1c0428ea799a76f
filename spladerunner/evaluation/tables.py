"""Tables for a paper, a row for each system: Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import NamedTuple

from spladerunner.evaluation.means import Means
from spladerunner.evaluation.results import Evaluation
from spladerunner.evaluation.rows import COMPARISON, Cell, Row, measure_figure

SHOWN = ("difference", "p_holm", "weights_per_document", "weights_per_query", "index_bytes", "query_milliseconds_p50")
"""Figures beside the measures. CSV has all."""

_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}  # fmt: skip


class Table(NamedTuple):
    """A caption, the heads of the columns, and a row of cells for each system; the first two are text."""

    caption: str
    head: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]


def systems_table(evaluation: Evaluation) -> Table:
    """The measures of each system, its difference from BM25, its size and its latency."""
    groups = evaluation.rows()
    rows = groups["measures"] + [row for group in groups.values() for row in group if row.key in SHOWN]
    return _transposed(f"{evaluation.title}: {evaluation.size}", [system.name for system in evaluation.systems], rows)


def pairs_table(evaluation: Evaluation) -> Table:
    """Comparisons of the models with one another; those with BM25 are in the systems' table."""
    pairs = [pair for pair in evaluation.pairs if pair.other != evaluation.bm25.name]
    rows = [figure.row([pair.comparison for pair in pairs]) for figure in COMPARISON]
    table = _transposed(
        f"{evaluation.title}: differences in {evaluation.main}",
        [f"{pair.system} minus {pair.other}" for pair in pairs],
        rows,
    )
    return table._replace(head=("systems", "difference", "p", "p, Holm", "better", "worse", "equal"))


def means_table(means: Means) -> Table:
    """The main measure on each collection, and its mean."""
    main = means.evaluations[0].main
    rows = [
        measure_figure(main).row(evaluation.systems)._replace(label=name)
        for name, evaluation in zip(means.folders(), means.evaluations, strict=True)
    ]
    return _transposed(f"{main} on each collection", means.systems, [*rows, means.rows()[0]._replace(label="mean")])


def markdown(table: Table) -> str:
    """Formats a table as Markdown; the best of each column is bold.

    >>> print(markdown(Table("Two", ("system", "MRR"), [("a", [Cell(0.5, "0.500", True)])])))
    Two
    <BLANKLINE>
    | system | MRR |
    |---|---|
    | a | **0.500** |
    """
    rows = [[name, *(f"**{cell.text}**" if cell.best else cell.text for cell in cells)] for name, cells in table.rows]
    head, *lines = ("| " + " | ".join(text.replace("|", r"\|") for text in row) + " |" for row in [table.head, *rows])
    return "\n".join([table.caption, "", head, "|" + "---|" * len(table.head), *lines])


def latex(table: Table) -> str:
    r"""Formats a table as LaTeX with the package booktabs; the best of each column is bold.

    >>> print(latex(Table("Two & more", ("system", "MRR"), [("a_b", [Cell(0.5, "0.500", True)])])))
    \begin{table}
    \caption{Two \& more}
    \begin{tabular}{lr}
    \toprule
    system & MRR \\
    \midrule
    a\_b & \textbf{0.500} \\
    \bottomrule
    \end{tabular}
    \end{table}
    """
    lines = [
        [latex_text(name), *(rf"\textbf{{{latex_text(c.text)}}}" if c.best else latex_text(c.text) for c in cells)]
        for name, cells in table.rows
    ]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{latex_text(table.caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}",
            r"\toprule",
            " & ".join(map(latex_text, table.head)) + r" \\",
            r"\midrule",
            *(" & ".join(line) + r" \\" for line in lines),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def latex_text(text: str) -> str:
    r"""Escapes what LaTeX would take for a command; a number gets a true minus.

    >>> latex_text("p < 5%"), latex_text("-0.5")
    ('p $<$ 5\\%', '$-$0.5')
    """
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return re.sub(r"^-(?=\d)", "$-$", escaped)


def csv_text(means: Means) -> str:
    """Every figure with all its digits, a row for each system on each collection."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    keys = list(dict.fromkeys(row.key for evaluation in means.evaluations for row in _every_row(evaluation)))
    writer.writerow(["collection", "split", "system", *keys])
    for folder, evaluation in zip(means.folders(), means.evaluations, strict=True):
        rows = {row.key: row for row in _every_row(evaluation)}
        for at, system in enumerate(evaluation.systems):
            values = [rows[key].cells[at].value if key in rows else None for key in keys]
            writer.writerow([folder, evaluation.collection.split, system.name, *values])
    return file.getvalue()


def _every_row(evaluation: Evaluation) -> list[Row]:
    return [row for group in evaluation.rows().values() for row in group]


def _transposed(caption: str, names: Sequence[str], rows: Sequence[Row]) -> Table:
    """A table with a row for each name and a column for each row."""
    return Table(
        caption,
        ("system", *(row.label for row in rows)),
        [(name, [row.cells[at] for row in rows]) for at, name in enumerate(names)],
    )
