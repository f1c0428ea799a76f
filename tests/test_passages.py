"""Long texts: their windows against the tokenizers library's own, and their vectors against NumPy."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers, processors

from spladerunner import Expander, Passage, SparseVector, TokenCount
from spladerunner.inference.tokenizer import Tokenizer
from spladerunner.model.manifest import ROLES
from spladerunner.passages import joined, windows
from tests.small_model import TOKENS, WORDS, graph_role, tokenizer, write_bundle

CLS, SEP = TOKENS.index("[CLS]"), TOKENS.index("[SEP]")
MORE_WORDS = [word for word in WORDS if word.isascii() and word.isalpha()]
# Text of another type than 0 is left out: the library gives its type to the first window alone.
PROCESSORS = {
    "template": processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]),
    "template of other types": processors.TemplateProcessing(
        single="[SEP]:2 [CLS]:3 $A:0 [SEP]:2", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    ),
    "template with a token at the end": processors.TemplateProcessing(
        single="$A:0 [SEP]:1", special_tokens=[("[SEP]", SEP)]
    ),
    "BERT": processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS)),
    "RoBERTa": processors.RobertaProcessing(("[SEP]", SEP), ("[CLS]", CLS)),
    "byte level": processors.ByteLevel(),
    "none": None,
}


@pytest.fixture(params=PROCESSORS, scope="module")
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Path]:
    made = tokenizer()
    if PROCESSORS[request.param] is None:
        made = tokenizers.Tokenizer(made.model)
        made.pre_tokenizer = pre_tokenizers.Whitespace()
    else:
        made.post_processor = PROCESSORS[request.param]
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return Tokenizer(path), path


@pytest.mark.slow
@given(
    st.lists(st.sampled_from([*MORE_WORDS, "[SEP]", "[CLS]", "x", "unknowable", "数", "é"]), max_size=30),
    st.integers(4, 12),
    st.data(),
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_windows_are_those_of_the_tokenizers_library(
    both: tuple[Tokenizer, Path], words: list[str], max_length: int, data: st.DataObject
) -> None:
    ours, path = both
    reference = tokenizers.Tokenizer.from_file(str(path))
    overlap = data.draw(st.integers(0, max_length - ours.special_tokens_added - 1))
    reference.enable_truncation(max_length, stride=overlap)
    text = " ".join(words)
    whole = reference.encode(text)
    expected = [(each.ids, each.type_ids, each.attention_mask) for each in (whole, *whole.overflowing)]
    found = list(ours.windows(text, max_length, overlap))
    arrays = [(each.text.ids, each.text.type_ids, each.text.mask) for each in found]
    assert [tuple(array[0].tolist() for array in each) for each in arrays] == expected
    assert all(array.dtype == np.int64 for each in arrays for array in each)
    assert [each.text.content_tokens for each in found] == [each.end - each.start for each in found]
    (first,) = ours.windows(text, max_length, None)
    assert first.text.ids.tolist() == [whole.ids] == ours.encode(text, max_length).ids.tolist()
    reference.no_truncation()
    tokens = len(reference.encode(text, add_special_tokens=False))
    assert {each.tokens for each in (first, *found)} == {tokens} and ours.count(text) == tokens


def test_windows_cover_all_tokens_and_the_last_one_ends_the_text() -> None:
    for tokens in range(40):
        for size in range(1, 9):
            for overlap in range(size):
                found = list(windows(tokens, size, overlap))
                assert found[0][0] == 0 and found[-1][1] == tokens
                assert all(end - start == size for start, end in found[:-1]) and 0 <= tokens - found[-1][0] <= size
                for (start, end), (following, _) in pairwise(found):
                    assert end - following == overlap and following > start
                assert tokens == 0 or found[-1][0] < tokens


def text_of(words: int, seed: int = 0) -> list[str]:
    return random.Random(seed).choices(MORE_WORDS, k=words)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("overlap", [0, 3])
def test_a_passage_has_the_vector_of_its_tokens_alone(bundle: Path, threads: int, overlap: int) -> None:
    expander = Expander(bundle, 10, threads=threads)
    texts = [text_of(words, seed=words) for words in (0, 1, 8, 9, 30)]
    passages = list(expander.passages(map(" ".join, texts), overlap=overlap))
    expected = [
        (position, number, *place, len(text))
        for position, text in enumerate(texts)
        for number, place in enumerate(windows(len(text), 8, overlap))
    ]
    assert [passage[:5] for passage in passages] == expected
    for passage in passages:
        (alone,) = expander.encode(" ".join(texts[passage.text][passage.start : passage.end]))
        assert passage.vector == alone


def test_joined_windows_have_the_largest_weight_of_each_token(bundle: Path) -> None:
    expander = Expander(bundle, 10)
    words = [text_of(50), text_of(5), [], text_of(23, seed=1)]
    vectors = expander.encode(map(" ".join, words), overlap=2)
    assert vectors == list(expander.stream(map(" ".join, words), overlap=2))
    for text, vector in zip(words, vectors, strict=True):
        dense = np.zeros(len(TOKENS), dtype=np.float32)
        for start, end in windows(len(text), 8, 2):
            (piece,) = expander.encode(" ".join(text[start:end]))
            for index, value in zip(piece.indices, piece.values, strict=True):
                dense[index] = max(dense[index], value)
        assert vector == SparseVector(np.flatnonzero(dense), dense[np.flatnonzero(dense)])
    assert vectors[1] == expander.encode(" ".join(words[1]))[0]


def test_without_windows_a_passage_is_the_beginning_of_a_text(bundle: Path) -> None:
    expander = Expander(bundle, 10)
    texts = [" ".join(text_of(words)) for words in (0, 3, 8, 9, 500)]
    passages = list(expander.passages(texts, overlap=None))
    assert [passage.vector for passage in passages] == expander.encode(texts)
    places = [(passage.start, passage.end, passage.tokens) for passage in passages]
    assert places == [(0, 0, 0), (0, 3, 3), (0, 8, 8), (0, 8, 9), (0, 8, 500)]
    counts = expander.count_tokens(texts)
    assert counts == [TokenCount(tokens, end) for _, end, tokens in places]
    assert [count.cut for count in counts] == [False, False, False, True, True]


def test_roles_read_lengths_of_their_own(bundle: Path) -> None:
    expander = Expander(bundle, {"doc": 12, "query": 6})
    assert [count.read for role in ("doc", "query") for count in expander.count_tokens("x " * 20, role=role)] == [10, 4]
    assert len(list(expander.passages("x " * 20, role="query", overlap=1))) == 7
    expected = expander.encode("x " * 20, role="query", overlap=1)
    assert [passage.vector for passage in joined(expander.passages("x " * 20, role="query", overlap=1), 99)] == expected


@pytest.mark.parametrize(
    ("overlap", "error", "message"),
    [
        (-1, ValueError, "overlap=-1 is too small"),
        (8, ValueError, "overlap=8 is too large: a window has 8 tokens beside special ones"),
        (1.5, TypeError, "overlap must be an int, not 1.5"),
        (True, TypeError, "overlap must be an int, not True"),
    ],
)
def test_an_overlap_that_no_window_can_have_is_an_error_at_once(
    bundle: Path, overlap: int, error: type[Exception], message: str
) -> None:
    expander = Expander(bundle, 10)
    for method in (expander.passages, expander.stream, expander.encode):
        with pytest.raises(error, match=message):
            method(["cat"], overlap=overlap)
    with pytest.raises(TypeError, match=r"texts\[1\] must be a str, not int"):
        list(expander.passages(["cat", 5], overlap=1))  # type: ignore[list-item]


def test_windows_are_made_as_they_run(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text of any number of windows has only some of them in memory."""
    expander = Expander(bundle, 10, threads=2, tokens_in_flight=40)
    made = 0
    find = Tokenizer.windows

    def counting(*arguments: object) -> object:
        nonlocal made
        for window in find(*arguments):  # type: ignore[arg-type]
            made += 1
            yield window

    monkeypatch.setattr(Tokenizer, "windows", counting)
    ahead = 0
    for number, passage in enumerate(expander.passages("cat " * 2000, overlap=1), start=1):
        ahead = max(ahead, made - number)
        assert isinstance(passage, Passage)
    assert made == 286 and ahead <= 5


def test_a_prompt_is_read_and_counted_with_the_text(tmp_path: Path) -> None:
    roles = {name: replace(graph_role(f"{name}.onnx", 8), prompt="dog ") for name in ROLES}
    prompted = Expander(write_bundle(tmp_path / "prompted", roles=roles))
    plain = Expander(write_bundle(tmp_path / "plain"), 8)
    texts = ["the cat sat on the mat and the river bank", "the cat", " \n"]
    whole = ["dog the cat sat on the mat and the river bank", "dog the cat", " \n"]
    assert [each.vector for each in prompted.passages(texts, overlap=None)] == plain.encode(whole)
    assert prompted.encode(texts, overlap=2) == plain.encode(whole, overlap=2)
    assert prompted.count_tokens(texts) == plain.count_tokens(whole) != plain.count_tokens(texts)
