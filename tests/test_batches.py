"""Batches: which texts run together, how they are padded, and that their vectors come back in order."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spladerunner import SparseVector
from spladerunner.inference.batches import (
    CHUNK,
    MOST_TEXTS,
    PADDED_LENGTHS,
    Batch,
    TokenBudget,
    group,
    padded_length,
    run_in_batches,
    tokenize_ahead,
)
from spladerunner.inference.tokenizer import TokenizedText


def text_of(size: int, token: int = 1) -> TokenizedText:
    ids = np.full((1, size), token, dtype=np.int64)
    return TokenizedText(ids, np.ones_like(ids), np.full_like(ids, 2), content_tokens=size)


def vector_of(number: int) -> SparseVector:
    return SparseVector([number], [1.0])


def count_tokens(batch: Batch) -> list[SparseVector]:
    """A vector for each text, with the number of its tokens as the index."""
    return [vector_of(int(row.sum())) for row in batch.mask]


def run(sizes: Iterable[int], *, budget: int = 64, ahead: int = 200, threads: int = 2) -> list[int]:
    vectors = run_in_batches(
        map(text_of, sizes),
        count_tokens,
        budget=TokenBudget(budget),
        max_length=512,
        threads=threads,
        tokens_in_flight=ahead,
    )
    return [int(vector.indices[0]) for vector in vectors]


@pytest.mark.slow
@given(st.lists(st.integers(1, 700), max_size=60), st.integers(1, 2000), st.integers(1, 4000), st.integers(1, 3))
def test_every_text_has_its_vector_in_its_place(sizes: list[int], budget: int, ahead: int, threads: int) -> None:
    sizes = [min(size, 512) for size in sizes]
    assert run(sizes, budget=budget, ahead=ahead, threads=threads) == sizes


@given(st.lists(st.integers(1, 512), max_size=60), st.integers(1, 4000))
def test_batches_hold_each_text_once_within_the_budget(sizes: list[int], budget: int) -> None:
    batches = list(group(((place, text_of(size, token=place + 1)) for place, size in enumerate(sizes)), budget, 512))
    assert sorted(place for batch in batches for place in batch.places) == list(range(len(sizes)))
    for batch in batches:
        length = batch.ids.shape[1]
        assert batch.tokens <= budget or len(batch.places) == 1
        for row, place in enumerate(batch.places):
            size = sizes[place]
            assert length == padded_length(size, 512)
            assert batch.ids[row].tolist() == [place + 1] * size + [0] * (length - size)
            assert batch.mask[row].tolist() == [1] * size + [0] * (length - size)
            assert batch.type_ids[row].tolist() == [2] * size + [0] * (length - size)
            assert batch.content_tokens[row] == size


def test_a_batch_of_short_texts_is_bounded_by_the_weights_that_it_writes() -> None:
    texts = [(place, text_of(5)) for place in range(MOST_TEXTS + 3)]
    assert [len(batch.places) for batch in group(texts, 10**6, 512)] == [MOST_TEXTS, 3]


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_a_padded_length_holds_the_text_and_no_more_than_the_model_reads(tokens: int, room: int) -> None:
    max_length = tokens + room
    assert tokens <= padded_length(tokens, max_length) <= max_length
    assert padded_length(padded_length(tokens, max_length), max_length) == padded_length(tokens, max_length)


def test_padded_lengths_are_few_and_fill_the_tiles_of_a_card() -> None:
    assert all(length % 16 == 0 for length in PADDED_LENGTHS) and list(PADDED_LENGTHS) == sorted(PADDED_LENGTHS)
    assert len({padded_length(tokens, 8192) for tokens in range(1, 8193)}) == 10 + 15


def test_texts_are_taken_only_within_the_look_ahead() -> None:
    taken: list[int] = []

    def texts() -> Iterator[TokenizedText]:
        for number in range(1000):
            taken.append(number)
            yield text_of(16)

    stream = run_in_batches(
        texts(), count_tokens, budget=TokenBudget(64), max_length=512, threads=2, tokens_in_flight=160
    )
    next(stream)
    # Ten texts are grouped at a time; those that run or wait have at most as many tokens.
    assert len(taken) <= 30
    assert sum(1 for _ in stream) == 999


def test_texts_before_an_error_have_their_vectors() -> None:
    def texts() -> Iterator[TokenizedText]:
        yield text_of(5)
        yield text_of(7)
        raise ValueError("damaged")

    stream = run_in_batches(
        texts(), count_tokens, budget=TokenBudget(64), max_length=512, threads=2, tokens_in_flight=1000
    )
    assert [next(stream).indices[0], next(stream).indices[0]] == [5, 7]
    with pytest.raises(ValueError, match="damaged"):
        next(stream)


def test_a_lowered_budget_holds_for_the_texts_that_follow() -> None:
    budget, sizes = TokenBudget(64), []

    def observe(batch: Batch) -> list[SparseVector]:
        sizes.append(batch.tokens)
        budget.lower_to(32)
        return count_tokens(batch)

    texts = (text_of(16) for _ in range(16))
    list(run_in_batches(texts, observe, budget=budget, max_length=512, threads=1, tokens_in_flight=64))
    assert sizes == [64, 32, 32, 32, 32, 32, 32]
    budget.lower_to(48)
    assert budget.tokens == 32, "a budget is never raised"


def test_halves_of_a_batch() -> None:
    batch = Batch.of([(place, text_of(size)) for place, size in enumerate((3, 4, 5))], 8)
    first, second = batch.halves()
    assert (first.places, second.places) == ((0, 1), (2,))
    assert [int(row.sum()) for half in (first, second) for row in half.mask] == [3, 4, 5]
    assert second.content_tokens == (5,)


def test_tokenizing_keeps_the_order_and_takes_a_chunk_in_advance() -> None:
    taken: list[str] = []

    def texts() -> Iterator[str]:
        for number in range(3 * CHUNK):
            taken.append(str(number))
            yield taken[-1]

    tokenized = tokenize_ahead(texts(), lambda text: text_of(int(text) + 1), threads=3)
    assert next(tokenized).tokens == 1
    assert len(taken) == CHUNK
    assert [text.tokens for text in tokenized] == list(range(2, 3 * CHUNK + 1))


def test_tokenizing_gives_the_texts_before_an_error_and_leaves_no_thread() -> None:
    def texts() -> Iterator[str]:
        yield "one"
        raise TypeError("texts[1] is None")

    tokenized = tokenize_ahead(texts(), lambda text: text_of(len(text)), threads=2)
    assert next(tokenized).tokens == 3
    with pytest.raises(TypeError, match=r"texts\[1\]"):
        next(tokenized)
    abandoned = tokenize_ahead(iter(["a", "b"]), lambda text: text_of(len(text)), threads=2)
    next(abandoned)
    del abandoned
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("spladerunner-tokenizer")]
