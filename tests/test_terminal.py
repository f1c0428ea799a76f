from __future__ import annotations

from spladerunner.cli.terminal import bars, explanation_table, shortened, table
from spladerunner.explanation import Explanation, SharedToken


def test_bars_are_aligned_and_distinguish_own_tokens_from_expansions() -> None:
    drawn = bars({"bomb": 2.0, "数": 1.0, "war": 0.004}, {"bomb"}, width=30)
    assert drawn.splitlines() == [
        "  bomb  2.00 " + "█" * 17,
        "+ 数    1.00 " + "░" * 8,
        "+ war   0.00 ░",
    ]


def test_bars_count_tokens_left_out_and_name_an_empty_vector() -> None:
    assert bars({"bomb": 2.0}, set(), 40, left_out=3).endswith("… and 3 lighter")
    assert "no weights" in bars({}, set(), 40)


def test_bars_fit_into_a_narrow_terminal() -> None:
    assert all(len(line) <= 40 for line in bars({"a" * 20: 1.0, "b": 0.5}, set(), 40).splitlines())
    assert bars({"a" * 50: 1.0}, set(), 10).endswith("░" * 8)


def test_a_title_fits_and_has_no_control_characters() -> None:
    assert shortened("the cat\nsat", 20) == "the cat sat"
    assert shortened("a\x1b[2Jb", 20) == "a [2Jb"
    assert shortened("数" * 80, 21) == "数" * 10 + "…"


def test_the_explanation_ends_with_the_score() -> None:
    explanation = Explanation("q", "d", (SharedToken("bomb", 1.5, 2.0, 3.0), SharedToken("war", 1.0, 0.25, 0.25)))
    assert explanation_table(explanation).splitlines() == [
        "token  query  document  product",
        "bomb    1.50      2.00     3.00",
        "war     1.00      0.25     0.25",
        "score                      3.25",
    ]


def test_table_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table(("a", "bb"), [("ccc", "d")]) == "a    bb\nccc  d"
