from __future__ import annotations

import json

import pytest

from spladerunner.cli.terminal import bars, escaped, explanation_table, fitted_table, json_line, shortened, table
from spladerunner.explanation import Explanation, SharedToken


def test_bars_are_aligned_and_distinguish_own_tokens_from_expansions() -> None:
    drawn = bars({"bomb": 2.0, "数": 1.0, "war": 0.004}, {"bomb"}, width=30)
    assert drawn.splitlines() == [
        "  bomb  2.00 " + "█" * 17,
        "+ 数    1.00 " + "░" * 8,
        "+ war   0.00 ░",
    ]


def test_color_changes_nothing_but_the_ink() -> None:
    drawn = bars({"bomb": 2.0, "war": 1.0}, {"bomb"}, 30, color=True)
    assert drawn.splitlines() == [
        "  bomb  2.00 \x1b[36m" + "█" * 17 + "\x1b[0m",
        "+ war   1.00 \x1b[33m" + "░" * 8 + "\x1b[0m",
    ]


def test_bars_count_tokens_left_out_and_name_an_empty_vector() -> None:
    assert bars({"bomb": 2.0}, set(), 40, left_out=3).endswith("… and 3 lighter")
    assert "no weights" in bars({}, set(), 40)


def test_bars_fit_into_a_narrow_terminal() -> None:
    assert all(len(line) <= 40 for line in bars({"a" * 20: 1.0, "b": 0.5}, set(), 40).splitlines())
    assert bars({"a" * 50: 1.0}, set(), 10).endswith("░" * 8)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("naïve 数 😀", "naïve 数 😀"),
        ("a\x1b[2Jb", r"a\u001b[2Jb"),  # C0: clears the screen
        ("a\x9b2Jb", r"a\u009b2Jb"),  # C1: the same in one character
        ("a\nb\tc\rd\x7f", r"a\nb\tc\rd\u007f"),
        ("a\u202eb\u2066c", r"a\u202eb\u2066c"),  # writes what follows from right to left
        ("a\u2028b\u200bc", r"a\u2028b\u200bc"),
        ("a\U000e0041b", r"a\udb40\udc41b"),  # an invisible tag
        ("a\ud800b", r"a\ud800b"),
    ],
)
def test_what_is_not_printable_is_escaped_as_in_json(text: str, shown: str) -> None:
    assert escaped(text) == shown and shown.isprintable()
    assert json.loads(json_line({text: 1})) == {text: 1} and json_line({text: 1}).isprintable()


def test_every_function_for_a_terminal_escapes() -> None:
    evil, shown = "a\x1b[2J\nb", r"a\u001b[2J\nb"
    assert bars({evil: 2.0, "c": 1.0}, {evil}, 40).splitlines()[0].startswith(f"  {shown}  2.00 █")
    assert table((evil,), [(evil,)]) == f"{shown}\n{shown}"
    explanation = Explanation("q", "d", (SharedToken(evil, 1.0, 1.0, 1.0),))
    assert explanation_table(explanation).splitlines()[1].startswith(shown)


def test_a_title_fits_and_has_no_control_characters() -> None:
    assert shortened("the cat\nsat", 20) == "the cat sat"
    assert shortened("a\x1b[2Jb", 20) == r"a\u001b[2Jb"
    assert shortened("数" * 80, 21) == "数" * 10 + "…"


def test_the_explanation_ends_with_the_score() -> None:
    explanation = Explanation("q", "d", (SharedToken("bomb", 1.5, 2.0, 3.0), SharedToken("war", 1.0, 0.25, 0.25)))
    assert explanation_table(explanation).splitlines() == [
        "token  query  document  product",
        "bomb    1.50      2.00     3.00",
        "war     1.00      0.25     0.25",
        "score                      3.25",
    ]


def test_a_table_that_is_too_wide_goes_on_below_with_its_first_column() -> None:
    rows = [("nDCG@10", "0.343", "0.321", "0.3"), ("MRR@10", "0.5", "0.503", "0.4")]
    assert fitted_table(("", "BM25", "tiny-en", "tiny-en, top 4"), rows, 25).splitlines() == [
        "          BM25  tiny-en",
        "nDCG@10  0.343    0.321",
        "MRR@10     0.5    0.503",
        "",
        "         tiny-en, top 4",
        "nDCG@10             0.3",
        "MRR@10              0.4",
    ]
    narrow = fitted_table(("", "数数数数数数数数, top 4"), [("nDCG@10", "0.343")], 20).splitlines()
    assert narrow == ["         …数, top 4", "nDCG@10       0.343"]


def test_table_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table(("a", "bb"), [("ccc", "d")]) == "a    bb\nccc  d"
