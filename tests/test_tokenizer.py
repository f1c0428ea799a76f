from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers

from spladerunner.errors import ModelFilesError
from spladerunner.inference import freed_memory
from spladerunner.inference.tokenizer import CHARACTERS_PER_TOKEN, LARGE, LEAST_TOKENS, Tokenizer
from tests.small_model import TOKENS, tokenizer

CLS, SEP = TOKENS.index("[CLS]"), TOKENS.index("[SEP]")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer().save(str(path))
    return Tokenizer(path)


def reference_ids(text: str, max_length: int) -> list[int]:
    """The whole text through the tokenizers library, which cuts it itself."""
    reference = tokenizer()
    reference.enable_truncation(max_length)
    ids: list[int] = reference.encode(text).ids
    return ids


def test_shapes_and_types(small: Tokenizer) -> None:
    tokenized = small.encode("the cat sat", 16)
    assert tokenized.ids.tolist() == [[CLS, *map(TOKENS.index, ["the", "cat", "sat"]), SEP]]
    assert tokenized.mask.tolist() == [[1] * 5] and tokenized.type_ids.tolist() == [[0] * 5]
    assert tokenized.ids.dtype == tokenized.mask.dtype == tokenized.type_ids.dtype == "int64"
    assert tokenized.content_tokens == 3


def test_truncation_keeps_the_closing_special_token(small: Tokenizer) -> None:
    tokenized = small.encode("the cat sat on the mat", 5)
    assert tokenized.ids.tolist() == [[CLS, *map(TOKENS.index, ["the", "cat", "sat"]), SEP]]


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\0\x01", "\u200b"])
def test_a_text_without_tokens_has_no_content_tokens(small: Tokenizer, text: str) -> None:
    assert small.encode(text, 16).content_tokens == 0


pieces = st.sampled_from(
    [
        "cat",
        "the ",
        " ",
        "!",
        "[MASK]",
        "[MA",
        "SK]",
        "數",
        "数",
        "a" * 99,
        "a" * 101,
        "é",
        "\u0301",
        "😀",
        "\0",
        "river",
    ]
)
long_texts = st.lists(st.tuples(pieces, st.integers(1, 400)), max_size=12).map(
    lambda runs: "".join(piece * count for piece, count in runs)
)


@pytest.mark.slow
@given(long_texts, st.integers(3, 40))
@settings(max_examples=150, deadline=None)
def test_reading_only_the_beginning_changes_nothing(small: Tokenizer, text: str, max_length: int) -> None:
    assert small.encode(text, max_length).ids[0].tolist() == reference_ids(text, max_length)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), st.integers(3, 20), st.integers(1, 60))
@settings(deadline=None)
def test_any_text_is_read_as_the_tokenizers_library_reads_it(
    small: Tokenizer, text: str, max_length: int, repeated: int
) -> None:
    text *= repeated
    assert small.encode(text, max_length).ids[0].tolist() == reference_ids(text, max_length)


@pytest.mark.slow
@given(long_texts, st.integers(3, 40))
@settings(max_examples=150, deadline=None)
def test_spans_are_where_the_tokenizers_library_finds_the_tokens(small: Tokenizer, text: str, max_length: int) -> None:
    spans, read = small.spans(text, max_length)
    whole = tokenizer().encode(text, add_special_tokens=False)
    expected = list(zip(whole.offsets, whole.tokens, strict=True))[: max_length - 2]
    assert [(span.start, span.token) for span in spans] == [(start, token) for (start, _), token in expected]
    for span, ((_, end), token) in zip(spans, expected, strict=True):
        assert span.end == end or (token == "[UNK]" and span.start < span.end < end)  # a long word was cut
    assert read == (spans[-1].end if len(whole) > len(expected) else len(text))


def test_spans_are_places_in_the_text_as_it_was_given_with_broken_surrogates(small: Tokenizer) -> None:
    text = "\ud83d\ude00 cat \ud83d dog 😀"
    spans, read = small.spans(text, 32)
    assert [(text[span.start : span.end], span.token) for span in spans] == [
        ("\ud83d\ude00", "😀"),
        ("cat", "cat"),
        ("dog", "dog"),
        ("😀", "😀"),
    ]
    assert read == len(text)


FLOODS = [
    "a",
    "ACGT",
    " ",
    " \t\u2003",
    "\0",
    "!",
    "\ufffd",
    "\ud800",
    "😀😁",
    "👩\u200d👩\u200d👧🏳️\u200d🌈",
    "สวัสดีชาวโลก",
    "привет",
    "مرحبا",
    "数",
    "\u0301",
    "the cat sat on the mat. ",
]


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("end", ["cat", " the cat sat"])
def test_a_long_run_gives_the_tokens_of_the_tokenizers_library(small: Tokenizer, flood: str, end: str) -> None:
    text = flood * (40_000 // len(flood)) + end
    expected = tokenizer().encode(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    expected.truncate(63)
    assert small.encode(text, 64).ids[0, :63].tolist() == expected.ids


def test_ten_megabytes_of_prose_take_little_more_memory_than_the_text(tmp_path: Path) -> None:
    """In a process of its own: peak memory never falls."""
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    code = """
import resource, sys
from spladerunner.inference.tokenizer import Tokenizer
small = Tokenizer(sys.argv[1])
text = "the cat sat on the mat. " * 420_000
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tokenized = small.encode(text, 64)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, tokenized.ids.shape[1])
"""
    output = subprocess.check_output([sys.executable, "-c", code, tmp_path / "tokenizer.json"], text=True)
    kilobytes, length = map(int, output.split())
    assert kilobytes < 8 << 10 and length == 64


def test_only_the_beginning_of_a_long_text_is_given_to_the_tokenizers_library(
    small: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_lengths = []

    class Spy:
        def __getattr__(self, name: str) -> object:
            return getattr(tokenizer(), name)

        def encode(self, text: str, **options: bool) -> tokenizers.Encoding:
            given_lengths.append(len(text))
            return tokenizer().encode(text, **options)

    monkeypatch.setattr(small, "_tokenizer", Spy())
    small.encode("the cat sat on the mat. " * 50_000, 64)
    assert sum(given_lengths) <= CHARACTERS_PER_TOKEN * LEAST_TOKENS + len("the cat ")


def test_surrogates_are_replaced_or_joined(small: Tokenizer) -> None:
    lone = small.encode("cat \ud800 dog", 16).ids
    assert lone.tolist() == small.encode("cat \ufffd dog", 16).ids.tolist()
    pair = small.encode("\ud83d\ude00", 16).ids
    assert pair.tolist() == small.encode("😀", 16).ids.tolist()


def test_a_tokenizer_saved_with_truncation_and_padding_is_read_without(tmp_path: Path) -> None:
    made = tokenizer()
    made.enable_truncation(4)
    made.enable_padding(length=128)
    made.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer(tmp_path / "tokenizer.json").encode("the cat sat on the mat", 16).ids.shape == (1, 8)


def test_special_tokens_are_known(small: Tokenizer) -> None:
    assert small.vocabulary.tokens == TOKENS
    assert not small.vocabulary.carries_weight[[CLS, SEP]].any()
    assert small.special_tokens_added == 2


@pytest.mark.parametrize("content", [None, "", "{", '{"version": "1.0"}'])
def test_an_unreadable_file_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ModelFilesError, match=str(path)):
        Tokenizer(path)


def test_a_gap_in_the_vocabulary_is_a_token_without_a_name_or_weight(tmp_path: Path) -> None:
    """Positions 2 and 4 have no token, as in vocabularies from which tokens were taken out."""
    vocabulary = {"[UNK]": 0, "cat": 1, "dog": 3, "river": 5}
    made = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    read = Tokenizer(tmp_path / "tokenizer.json")
    assert read.vocabulary.tokens == ["[UNK]", "cat", "", "dog", "", "river"]
    assert read.vocabulary.carries_weight.tolist() == [True, True, False, True, False, True]
    assert read.encode("river dog", 8).ids.tolist() == [[5, 3]]


def test_only_special_added_tokens_carry_no_weight(tmp_path: Path) -> None:
    made = tokenizer()
    made.add_tokens(["covid-19"])
    made.add_special_tokens(["[Q]"])
    made.save(str(tmp_path / "tokenizer.json"))
    read = Tokenizer(tmp_path / "tokenizer.json")
    assert read.vocabulary.tokens[-2:] == ["covid-19", "[Q]"]
    assert read.vocabulary.carries_weight[-2:].tolist() == [True, False]
    assert read.encode("the covid-19 [Q]", 8).ids[0, 1:-1].tolist() == [
        TOKENS.index("the"),
        len(TOKENS),
        len(TOKENS) + 1,
    ]


def test_dropout_for_training_is_turned_off(tmp_path: Path) -> None:
    letters = {letter: at for at, letter in enumerate("abcdefgh")}
    merged = {**letters, "ab": 8, "cd": 9, "abcd": 10}
    made = tokenizers.Tokenizer(models.BPE(merged, [("a", "b"), ("c", "d"), ("ab", "cd")], dropout=0.9))
    made.save(str(tmp_path / "tokenizer.json"))
    assert '"dropout": 0.9' in (tmp_path / "tokenizer.json").read_text()
    read = Tokenizer(tmp_path / "tokenizer.json")
    assert all(read.encode("abcd", 8).ids.tolist() == [[10]] for _ in range(20))


@pytest.mark.parametrize("normalized", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("special", [True, False])
def test_added_tokens_that_the_normalizer_makes_the_same_are_refused(
    normalized: tuple[bool, bool], special: bool
) -> None:
    """tokenizers 0.23 reads one of them by chance, each time that it reads the file."""
    made = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "x": 1}, unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.BertNormalizer(strip_accents=True)
    for content, flag in zip(("É", "é"), normalized, strict=True):
        (made.add_special_tokens if special else made.add_tokens)([tokenizers.AddedToken(content, normalized=flag)])
    made.add_tokens([tokenizers.AddedToken("E2"), tokenizers.AddedToken("e1")])
    if all(normalized):
        with pytest.raises(ModelFilesError, match="adds the tokens 'É' and 'é', which its normalizer makes the same"):
            Tokenizer("tokenizer.json", made.to_str().encode())
    else:
        found = {tuple(Tokenizer("", made.to_str().encode()).encode("É x é e", 9).ids[0].tolist()) for _ in range(20)}
        assert found == {tuple(made.encode("É x é e").ids)}
    made.normalizer = None
    assert Tokenizer("tokenizer.json", made.to_str().encode()).encode("É", 9).ids.tolist() == [[2]]


def state(**changes: Any) -> bytes:
    """The JSON of a small tokenizer with other parts."""
    return json.dumps({**json.loads(tokenizer().to_str()), **changes}).encode()


def split(regex: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def template(**changes: Any) -> dict[str, Any]:
    sequence = [{"Sequence": {"id": "A", "type_id": 0}}]
    both = [*sequence, {"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": sequence, "pair": both, "special_tokens": {}, **changes}


WORD_PIECE = json.loads(tokenizer().to_str())["model"]
BEYOND = {"id": "[X]", "ids": [10**6], "tokens": ["[X]"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pre_tokenizer": split("(unclosed")}, "cannot be read as a tokenizer: .*parenthesis"),
        (
            {"model": {**WORD_PIECE, "unk_token": "[NONE]"}},
            r"names the unknown token '\[NONE\]', which it does not have",
        ),
        (
            {"model": {**WORD_PIECE, "vocab": {**WORD_PIECE["vocab"], "far": 4_000_000_000}}},
            "has 90 tokens at positions up to 4000000000",
        ),
        ({"model": {**WORD_PIECE, "vocab": {}}, "added_tokens": []}, "has no tokens"),
        (
            {
                "post_processor": template(
                    single=[{"SpecialToken": {"id": "[X]", "type_id": 0}}], special_tokens={"[X]": BEYOND}
                )
            },
            "adds the special token 1000000, which it does not have",
        ),
        ({"post_processor": template(single=[{"Sequence": {"id": "B", "type_id": 0}}])}, "cannot encode an empty text"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}, "cannot be read as a tokenizer"),
    ],
)
def test_a_tokenizer_that_would_fail_on_texts_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFilesError, match=rf"tokenizer\.json {message}") as raised:
        len(Tokenizer(tmp_path / "tokenizer.json", state(**changes)).vocabulary)
    assert raised.value.path == tmp_path / "tokenizer.json"


def test_a_regular_expression_that_takes_forever_is_an_error(tmp_path: Path) -> None:
    """It gives up after ten million steps, by a panic of Rust, which is no Exception."""
    made = Tokenizer(tmp_path / "tokenizer.json", state(pre_tokenizer=split("(a|aa)+$")))
    with pytest.raises(ModelFilesError, match=r"tokenizer\.json failed on a text: .*retry-limit"):
        made.encode("a" * 60 + "!", 100)
    with pytest.raises(ModelFilesError, match=r"tokenizer\.json failed on a text"):
        made.spans("a" * 60 + "!", 100)
    assert made.encode("b", 100).content_tokens == 1


def test_a_text_that_needs_a_missing_unknown_token_is_an_error(tmp_path: Path) -> None:
    unigram = {"type": "Unigram", "unk_id": None, "vocab": [["a", -1.0]], "byte_fallback": False}
    made = Tokenizer(
        tmp_path / "tokenizer.json",
        state(model=unigram, added_tokens=[], post_processor=None, normalizer=None, pre_tokenizer=None),
    )
    with pytest.raises(ModelFilesError, match=r"tokenizer\.json failed on a text: .*unk_id"):
        made.encode("b", 100)


def test_interrupts_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Tokenizer(tmp_path / "tokenizer.json", state())

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(made, "_encode_beginning", interrupt)
    with pytest.raises(KeyboardInterrupt):
        made.encode("a", 10)


def test_sampling_for_training_is_not_read(tmp_path: Path) -> None:
    """Newer releases of the tokenizers library can sample a Unigram model's pieces, as SentencePiece does."""
    made = tokenizers.Tokenizer(models.Unigram([("<unk>", -1.0), ("a", -2.0), ("aa", -2.1)], unk_id=0))
    document = json.loads(made.to_str())
    document["model"] |= {"alpha": 0.1, "nbest_size": -1, "enable_sampling": True}
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    read = Tokenizer(tmp_path / "tokenizer.json")
    assert all(read.encode("a" * 40, 50).ids.tolist() == [[2] * 20] for _ in range(20))


@pytest.mark.parametrize(("position", "refused"), [(2 * 90 + 1000, False), (2 * 90 + 1001, True)])
def test_a_vocabulary_may_have_gaps_but_not_many(tmp_path: Path, position: int, refused: bool) -> None:
    """90 tokens, of which the last may lie 1,000 positions beyond as many gaps as there are tokens."""
    changed = state(model={**WORD_PIECE, "vocab": {**WORD_PIECE["vocab"], "far": position}})
    if refused:
        with pytest.raises(ModelFilesError, match=f"has 90 tokens at positions up to {position}"):
            len(Tokenizer(tmp_path / "tokenizer.json", changed).vocabulary)
    else:
        assert Tokenizer(tmp_path / "tokenizer.json", changed).vocabulary.tokens[position] == "far"


def test_a_length_with_room_for_special_tokens_only_reads_nothing(tmp_path: Path) -> None:
    assert Tokenizer(tmp_path / "tokenizer.json", state()).spans("the cat", 2) == ((), 0)


def test_memory_is_returned_after_a_long_text_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By glibc's malloc_trim, with no padding left at the top of the heap."""
    calls: list[int] = []
    monkeypatch.setattr(freed_memory, "_malloc_trim", lambda: calls.append)
    made = Tokenizer(tmp_path / "tokenizer.json", state())
    made.encode("x" * (LARGE - 1), 16)
    assert calls == []
    made.encode("x" * LARGE, 16)
    assert calls == [0]
