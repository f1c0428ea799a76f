from __future__ import annotations

from collections.abc import Callable

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers

from spladerunner.inference.long_runs import KEPT, can_collapse, collapse_long_runs
from tests.small_model import TOKENS, tokenizer

pieces = st.sampled_from(
    [
        "cat",
        "a",
        "\u0301",
        "\0",
        "\u200d",
        " ",
        "\t",
        "\u2003",
        "!",
        "_",
        "数",
        "ど",
        "😀",
        "ก็",
        "й",
        "İ",
        "٣",
        "ꙮ",
        "¨",
    ]
)
floods = st.lists(
    st.tuples(st.lists(pieces, min_size=1, max_size=3).map("".join), st.integers(1, 3 * KEPT)), max_size=6
).map(lambda runs: "".join(piece * count for piece, count in runs))


@given(floods)
@settings(max_examples=300, deadline=None)
@pytest.mark.parametrize("lowercase", [True, False])
def test_the_tokens_stay_the_same(lowercase: bool, text: str) -> None:
    made = tokenizer(lowercase=lowercase)
    assert made.encode(collapse_long_runs(text)).tokens == made.encode(text).tokens


@given(st.text(max_size=50).map(lambda text: text * (3 * KEPT)))
@settings(deadline=None, max_examples=50)
def test_the_tokens_stay_the_same_whatever_is_repeated(text: str) -> None:
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    made = tokenizer()
    assert made.encode(collapse_long_runs(text)).tokens == made.encode(text).tokens


@pytest.mark.parametrize("flood", ["a", "ACGT", " ", " \t", "\0", "😀", "สวัสดี", "привет", "e\u0301"])
def test_a_flood_is_shortened(flood: str) -> None:
    assert len(collapse_long_runs(flood * 100_000 + "!cat")) <= 4 * KEPT


def test_what_is_no_flood_stays_as_it_is() -> None:
    text = "The cat sat on the mat, naïvely. " * 50
    assert collapse_long_runs(text) == text


def bert(change: Callable[[tokenizers.Tokenizer], object]) -> tokenizers.Tokenizer:
    made = tokenizer()
    change(made)
    return made


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (tokenizer(), True),
        (tokenizer(lowercase=False), True),
        (bert(lambda made: made.add_tokens(["zika"])), False),
        (bert(lambda made: setattr(made, "pre_tokenizer", pre_tokenizers.Whitespace())), False),
        (bert(lambda made: setattr(made, "normalizer", normalizers.Lowercase())), False),
        (bert(lambda made: setattr(made, "normalizer", normalizers.BertNormalizer(clean_text=False))), False),
        (bert(lambda made: setattr(made.model, "max_input_chars_per_word", 1000)), False),
        (tokenizers.Tokenizer(models.BPE({token: at for at, token in enumerate(TOKENS)}, [])), False),
    ],
)
def test_only_berts_own_tokenizer_is_taken_for_one(made: tokenizers.Tokenizer, expected: bool) -> None:
    added = [token.content for token in made.get_added_tokens_decoder().values()]
    assert can_collapse(made, added) is expected
