from __future__ import annotations

import pytest

from spladerunner.evaluation.rows import INDEX, SPEED, Cell, Figure, Row, megabytes

LENGTH: Figure[str] = Figure("length", "characters", lambda text: len(text) or None, "{:d}".format)


def test_a_figure_without_a_value_is_told_from_a_system_without_the_figure() -> None:
    assert LENGTH.row(["ab", "", None]) == Row(
        "length", "characters", (Cell(2, "2", False), Cell(None, "not defined", False), Cell(None, "", False))
    )


def test_less_of_what_is_cut_stored_and_read_is_better_and_no_other_figure_has_a_best_value() -> None:
    figures = (*INDEX, *SPEED)
    assert {figure.key for figure in figures if figure.higher_is_better is False} == {
        "documents_cut",
        "tokens_lost",
        "postings",
        "index_bytes",
        "flops",
        "posting_reads_per_query",
    }
    assert not any(figure.higher_is_better for figure in figures)
    assert [figure.label for figure in SPEED if "alone" in figure.label] == [
        f"a query alone, ms, p{percentile}" for percentile in (50, 95, 99)
    ]


def test_the_best_cells_are_those_whose_text_is_the_best_value_s() -> None:
    higher: Figure[float] = Figure("x", "x", float, "{:.1f}".format, higher_is_better=True)
    lower: Figure[float] = Figure("x", "x", float, "{:.1f}".format, higher_is_better=False)
    values = [0.32, 0.34, 0.1, None]
    assert [cell.best for cell in higher.row(values).cells] == [True, True, False, False]
    assert [cell.best for cell in lower.row(values).cells] == [False, False, True, False]
    assert not higher.row([None]).cells[0].best


@pytest.mark.parametrize(
    ("count", "shown"),
    [(123_456_700_000, "123,456.7 MB"), (100_000, "0.1 MB"), (99_999, "100.0 kB"), (1_940, "1.9 kB")],
)
def test_bytes_are_shown_in_decimal_megabytes(count: float, shown: str) -> None:
    assert megabytes(count) == shown
