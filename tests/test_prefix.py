"""Prefixes against the tokenizers library reading the whole text, over texts and tokenizers of all four families."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest
import tokenizers
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from spladerunner.inference.prefix import prefixes, reads_words_apart
from spladerunner.inference.tokenizer import same_added_tokens

STRINGS = 4_000
"""`make sweep` tries a million."""

WORDS = (
    "the cat sat u.s.a. reactor don't I'll a B 1234567 x1y naïve Straße ΣΑΣ İ . , -- <mask> [MASK] ##ing Ġ <x> Tok { É"
)
PIECES = [*WORDS.split(" "), *"数据▁ﬁ½가각", "▁foo", "e\u0301", "\u1100\u1161", "👨\u200d👩\u200d👧", "[X Y]"]
PIECES += ["\r\n", "  ", "   ", *"\t\n\u00a0\u3000\u200b\0\u00ad\u0301\u0345\ufffd"]
ADDED = ["<mask>", "[MASK]", "Tok", "u.s.a.", "<x>", "数", "e\u0301", "ﬁ", "naïve", "tok", "the", "a", "a.", "É", "B1"]
NORMALIZERS = [
    None,
    normalizers.BertNormalizer(),
    normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, lowercase=False),
    normalizers.BertNormalizer(strip_accents=True, lowercase=False),
    normalizers.NFC(),
    normalizers.NFKC(),
    normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]),
    normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]),
    normalizers.Sequence([normalizers.Strip(left=False), normalizers.Replace("``", '"')]),
    normalizers.Replace(tokenizers.Regex(" {2,}"), "▁"),
    normalizers.Nmt(),
    normalizers.Prepend("▁"),
]


def word_piece(longest: int = 5) -> models.WordPiece:
    words = [
        "[UNK]",
        "[PAD]",
        "[MASK]",
        "the",
        "cat",
        "sat",
        "u",
        ".",
        "s",
        "a",
        "##a",
        "##b",
        "##s",
        "##t",
        "b",
        "d",
        "i",
        "naive",
        "数",
        "据",
        "1",
        "##2",
        "##3",
        "##4",
        "re",
        "##act",
        "##or",
        "don",
        "'",
        "##x",
        "x",
        "y",
        "##y",
        ",",
        "-",
        "strasse",
        "##e",
        "e",
        "tok",
        "##ok",
        "t",
    ]
    vocabulary = {word: at for at, word in enumerate(words)}
    return models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=longest)


def byte_pairs(*, byte_level: bool = True) -> models.BPE:
    alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else "abcdefghijklmnopqrstuvwxyzABCDE▁0123456789.,'"
    vocabulary = {character: at for at, character in enumerate(sorted(alphabet))}
    merges = []
    for pair in ("t h", "th e", "c a", "ca t", "s a", "Ġ t", "Ġ c", "Ġt h", "▁ c", "▁ t", "1 2", "Ġ Ġ"):
        left, right = pair.split()
        if left in vocabulary and right in vocabulary:
            vocabulary.setdefault(left + right, len(vocabulary))
            merges.append((left, right))
    vocabulary["<unk>"] = len(vocabulary)
    return models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True)


def unigram() -> models.Unigram:
    pieces = [
        "<unk>",
        "▁",
        "▁the",
        "▁cat",
        "the",
        "cat",
        "▁sat",
        "s",
        "a",
        "t",
        "▁a",
        "b",
        "c",
        "e",
        "h",
        ".",
        "1",
        "2",
        "数",
        "r",
        "▁re",
        "act",
        "or",
        "▁Tok",
    ]
    return models.Unigram([(piece, -float(at)) for at, piece in enumerate(pieces)], unk_id=0)


def word_level() -> models.WordLevel:
    words = [
        "[UNK]",
        "the",
        "cat",
        "sat",
        "a",
        "b",
        "u",
        "s",
        ".",
        ",",
        "u.s.a.",
        "1234567",
        "don't",
        "naïve",
        "数",
        "É",
    ]
    return models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]")


FAMILIES: list[tuple[Callable[[], Any], list[Any]]] = [
    (word_piece, [pre_tokenizers.BertPreTokenizer()]),
    (word_piece, [pre_tokenizers.Whitespace(), pre_tokenizers.WhitespaceSplit()]),
    (word_piece, [pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), pre_tokenizers.WhitespaceSplit()])]),
    (byte_pairs, [pre_tokenizers.ByteLevel(), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    (byte_pairs, [pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel()])]),
    (lambda: byte_pairs(byte_level=False), [pre_tokenizers.Metaspace()]),
    (unigram, [pre_tokenizers.Metaspace(), pre_tokenizers.Metaspace(prepend_scheme="first")]),
    (unigram, [pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])]),
    (word_level, [pre_tokenizers.Whitespace(), pre_tokenizers.WhitespaceSplit(), pre_tokenizers.BertPreTokenizer()]),
]
FLAGS = ("lstrip", "rstrip", "normalized", "single_word")


def assembled(
    model: Any, splitter: Any, normalizer: Any = None, added: Iterable[tuple[AddedToken, bool]] = ()
) -> Tokenizer:
    """A tokenizer of these parts. added: tokens, and whether each is special."""
    made = Tokenizer(model)
    made.pre_tokenizer = splitter
    if normalizer is not None:
        made.normalizer = normalizer
    for token, special in added:
        (made.add_special_tokens if special else made.add_tokens)([token])
    return made


@st.composite
def tokenizers_of_all_families(draw: st.DrawFn) -> Tokenizer:
    model, splitters = draw(st.sampled_from(FAMILIES))
    flag = st.booleans()
    added = [
        (AddedToken(content, **{name: draw(flag) for name in FLAGS}), draw(flag))
        for content in draw(st.lists(st.sampled_from(ADDED), max_size=4, unique=True))
    ]
    return assembled(model(), draw(st.sampled_from(splitters)), draw(st.sampled_from(NORMALIZERS)), added)


texts = st.lists(
    st.tuples(
        st.sampled_from(PIECES) | st.characters(exclude_categories=["Cs"]), st.sampled_from(["", " ", " ", "  "])
    ),
    max_size=40,
).map(lambda pieces: "".join(piece + space for piece, space in pieces))


def first_wrong(made: Tokenizer, prefixes_of: Mapping[str, Iterable[str]]) -> str | None:
    """A text with a prefix whose tokens are not the first tokens of the whole text, or None. Encodes all at once."""
    pairs = [(text, prefix) for text, beginnings in prefixes_of.items() for prefix in beginnings]
    wholes = dict(zip(prefixes_of, made.encode_batch(list(prefixes_of), add_special_tokens=False), strict=True))
    encodings = made.encode_batch([prefix for _, prefix in pairs], add_special_tokens=False)
    for (text, _), encoding in zip(pairs, encodings, strict=True):
        if wholes[text].ids[: len(encoding.ids)] != encoding.ids:
            return text
    return None


def agrees(made: Tokenizer, text: str, length: int) -> bool:
    """True if the tokens of every prefix are the first tokens of the whole text, and the last prefix is the whole."""
    found = list(prefixes(text, length))
    return found[-1] == text and first_wrong(made, {text: found}) is None


@pytest.mark.slow
@given(tokenizers_of_all_families(), st.lists(st.tuples(texts, st.integers(0, 60)), min_size=20, max_size=20))
@settings(max_examples=STRINGS // 20, database=None, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_tokens_of_a_prefix_are_the_first_tokens_of_the_text(made: Tokenizer, cases: list[tuple[str, int]]) -> None:
    assume(reads_words_apart(made) and not same_added_tokens(made))
    for text, length in cases:
        assert agrees(made, text, length), (text, length)


SWEPT = {
    "WordPiece": assembled(word_piece(), pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer()),
    "BPE": assembled(byte_pairs(), pre_tokenizers.ByteLevel(), normalizers.NFC()),
    "Unigram": assembled(unigram(), pre_tokenizers.Metaspace(), normalizers.NFKC()),
    "WordLevel": assembled(word_level(), pre_tokenizers.Whitespace(), normalizers.Lowercase()),
    "added tokens": assembled(
        word_piece(),
        pre_tokenizers.BertPreTokenizer(),
        normalizers.BertNormalizer(),
        [
            (AddedToken("<mask>", lstrip=True, normalized=False), True),
            (AddedToken("u.s.a.", rstrip=True), False),
            (AddedToken("Tok", single_word=True), False),
            (AddedToken("naïve", normalized=True), False),
        ],
    ),
}
"""Tokenizers that read all code points."""


WITHOUT_ADDED_TOKENS = "#b # c#x y#z #"
WITH_ADDED_TOKENS = "#<mask># Tok# u.s.a.# c#naïve y#z #<mask>#Tok #u.s.a. #"


def unit(character: str, made: Tokenizer) -> str:
    """A text with the character in all positions.

    That is where it begins and ends, alone, inside a word, beside the letters before and after a cut, and on each side
    of the added tokens, if there are any.
    """
    return (WITH_ADDED_TOKENS if made.get_added_tokens_decoder() else WITHOUT_ADDED_TOKENS).replace("#", character)


def sweep(made: Tokenizer, characters: Iterable[str]) -> str | None:
    """A text with one of the characters of which a prefix has other tokens than the whole, or None."""
    return first_wrong(
        made, {text: prefixes_of_all_lengths(text) for text in (unit(each, made) for each in characters)}
    )


def prefixes_of_all_lengths(text: str) -> Iterator[str]:
    """The first prefix for each length asked for, from the shortest to the one before the whole text."""
    length = 0
    while (prefix := next(prefixes(text, length))) != text:
        yield prefix
        length = len(prefix) + 1


def chunks(size: int) -> list[str]:
    """All code points but the surrogates, this many a string."""
    everything = "".join(chr(at) for at in range(sys.maxunicode + 1) if not 0xD800 <= at <= 0xDFFF)
    return [everything[at : at + size] for at in range(0, len(everything), size)]


@pytest.mark.parametrize("name", SWEPT)
def test_no_code_point_changes_the_tokens_before_it(name: str) -> None:
    """A part of all code points, which `make sweep` tries: those of the first page, and every 997th."""
    (everything,) = chunks(sys.maxunicode)
    made = SWEPT[name]
    assert len(everything) == 1_112_064 and reads_words_apart(made)
    assert sweep(made, everything[:256] + everything[256::997] + "\ufffd") is None


@pytest.mark.parametrize("step", [61, pytest.param(1, marks=pytest.mark.slow)])
def test_no_version_of_python_cuts_at_another_character(step: int) -> None:
    """All code points, 64 a text, or every step-th text: the only cuts are between the letters beside them."""
    for chunk in chunks(64)[2::step]:
        text = "".join(WITHOUT_ADDED_TOKENS.replace("#", character) for character in chunk)
        cut = WITHOUT_ADDED_TOKENS.index("x y") + 1
        ends = [at * len(WITHOUT_ADDED_TOKENS) + cut for at in range(len(chunk))]
        assert [len(prefix) for prefix in prefixes_of_all_lengths(text)] == ends, chunk
    for character in map(chr, range(128)):
        text = unit(character, SWEPT["BPE"])
        apart = [at for at in range(1, len(text) - 1) if text[at] == " " and (text[at - 1] + text[at + 1]).isalpha()]
        assert [len(prefix) for prefix in prefixes_of_all_lengths(text)] == apart


def test_the_sweep_cuts_beside_each_character_and_finds_a_tokenizer_that_reads_on() -> None:
    assert [prefix[-3:] for prefix in prefixes_of_all_lengths(unit("#", SWEPT["BPE"]))] == ["c#x"]
    assert [prefix[-3:] for prefix in prefixes_of_all_lengths(unit("#", SWEPT["added tokens"]))] == ["ïve"]
    assert sweep(assembled(word_level(), pre_tokenizers.Whitespace(), None, [(AddedToken("naïve y"), False)]), "#")
    assert sweep(assembled(word_level(), pre_tokenizers.Whitespace(), normalizers.Replace("x y", "cat")), "#")


def test_prefixes_end_before_a_space_and_grow_to_the_whole_text() -> None:
    text = "the cat sat on the mat " * 1000
    found = list(prefixes(text, 100))
    assert found[-1] == text and all(text.startswith(prefix) for prefix in found)
    assert all(text[len(prefix)] == " " for prefix in found[:-1])
    assert [len(prefix) // 100 for prefix in found] == [1, 4, 16, 66, 230]
    assert list(prefixes("数" * 1000, 10)) == ["数" * 1000]


def test_a_prefix_ends_only_at_one_space_between_two_ascii_letters() -> None:
    text = "a1 b, c  d .e f\tg é h"
    assert list(prefixes(text, 0)) == ["a1 b, c  d .e", text]


def test_a_prefix_does_not_end_at_spaces_that_a_normalizer_takes_away() -> None:
    """The two spaces become a mark, which does not end a word here: "the▁cat" is one."""
    joined = normalizers.Replace(tokenizers.Regex(" {2,}"), "▁")
    made = assembled(word_level(), pre_tokenizers.WhitespaceSplit(), joined)
    assert reads_words_apart(made) and agrees(made, "the  cat sat", 0)
    assert made.encode("the").ids != made.encode("the  cat sat").ids[:1]


def with_part(*, normalizer: object = None, splitter: object = None, added: str | None = None) -> Tokenizer:
    tokens = [(AddedToken(added, normalized=True), False)] if added else []
    return assembled(word_piece(), splitter or pre_tokenizers.BertPreTokenizer(), normalizer, tokens)


@pytest.mark.parametrize(
    "made",
    [
        with_part(splitter=pre_tokenizers.Metaspace(split=False)),
        with_part(splitter=pre_tokenizers.ByteLevel(use_regex=False)),
        with_part(splitter=pre_tokenizers.Split(tokenizers.Regex(r"\p{N}{1,3}(?=(\p{N}{3})*$)"), "isolated")),
        with_part(splitter=pre_tokenizers.Digits()),
        with_part(
            splitter=pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), pre_tokenizers.UnicodeScripts()])
        ),
        with_part(normalizer=normalizers.Replace(" ", "▁")),
        with_part(normalizer=normalizers.Replace("t c", "tc")),
        with_part(normalizer=normalizers.Replace(tokenizers.Regex("t c"), "tc")),
        with_part(added="New York"),
        with_part(added="數\u3000x"),
        with_part(normalizer=normalizers.NFKC(), added="a\u00b4b"),  # the accent becomes a space and a mark
        Tokenizer(word_piece()),
    ],
)
def test_a_part_that_may_read_across_a_space_makes_the_whole_text_be_read(made: Tokenizer) -> None:
    assert not reads_words_apart(made)


def test_the_comparison_finds_a_tokenizer_that_reads_across_a_space() -> None:
    made = with_part(added="t c")
    assert not agrees(made, "the cat sat on the cat cat", 20) and agrees(with_part(), "the cat sat on the cat cat", 20)
