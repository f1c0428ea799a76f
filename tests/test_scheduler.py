from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spladerunner import SparseVector
from spladerunner.inference.scheduler import run_in_order
from spladerunner.inference.tokenizer import TokenizedText
from tests.test_worker_threads import all_end


def text_of(size: int, name: int = 0) -> TokenizedText:
    ids = np.full((1, size), name, dtype=np.int64)
    return TokenizedText(ids, np.ones_like(ids), np.zeros_like(ids), content_tokens=size)


def named(text: TokenizedText) -> SparseVector:
    return SparseVector([int(text.ids[0, 0])], [1.0])


@given(st.lists(st.integers(1, 20), max_size=30), st.integers(1, 4), st.integers(1, 50))
@settings(deadline=None, max_examples=50)
def test_every_result_comes_once_and_in_order(sizes: list[int], threads: int, tokens_in_flight: int) -> None:
    texts = (text_of(size, name) for name, size in enumerate(sizes))
    results = run_in_order(texts, named, threads=threads, tokens_in_flight=tokens_in_flight)
    assert [int(result.indices[0]) for result in results] == list(range(len(sizes)))


@given(st.lists(st.integers(1, 20), max_size=20), st.integers(1, 40))
@settings(deadline=None, max_examples=25)
def test_no_more_than_tokens_in_flight_run_at_the_same_time(sizes: list[int], tokens_in_flight: int) -> None:
    lock = threading.Lock()
    running: list[int] = []
    seen: list[list[int]] = []

    def run(text: TokenizedText) -> SparseVector:
        with lock:
            running.append(text.ids.size)
            seen.append(list(running))
        time.sleep(0.0005)
        with lock:
            running.remove(text.ids.size)
        return named(text)

    list(run_in_order(map(text_of, sizes), run, threads=4, tokens_in_flight=tokens_in_flight))
    assert all(sum(together) <= tokens_in_flight or len(together) == 1 for together in seen)


def test_texts_are_taken_only_within_the_limit() -> None:
    taken = 0

    def texts() -> Iterator[TokenizedText]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield text_of(10)

    results = run_in_order(texts(), named, threads=2, tokens_in_flight=50)
    next(results)
    assert taken <= 7
    results.close()  # type: ignore[attr-defined]


def test_an_error_in_a_run_is_raised_and_ends_the_threads() -> None:
    def run(text: TokenizedText) -> SparseVector:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        list(run_in_order(map(text_of, [1, 2, 3]), run, threads=2, tokens_in_flight=10))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("spladerunner")]


def test_closing_early_ends_the_threads() -> None:
    results = run_in_order(map(text_of, [1] * 100), named, threads=2, tokens_in_flight=10)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert all_end()


def test_closing_withdraws_the_texts_that_wait_and_does_not_wait_for_those_that_run() -> None:
    begun: list[int] = []
    all_wait, both_run, gate = threading.Event(), threading.Barrier(3), threading.Event()
    opened_late = threading.Timer(30, gate.set)
    opened_late.start()

    def texts() -> Iterator[TokenizedText]:
        yield from (text_of(1, name) for name in range(8))
        all_wait.set()

    def run(text: TokenizedText) -> SparseVector:
        begun.append(int(text.ids[0, 0]))
        if begun[-1] == 0:
            all_wait.wait(30)
        else:
            both_run.wait(30)
            gate.wait(60)
        return named(text)

    results = run_in_order(texts(), run, threads=2, tokens_in_flight=8)
    next(results)
    both_run.wait(30)
    results.close()  # type: ignore[attr-defined]
    assert not gate.is_set()
    opened_late.cancel()
    gate.set()
    assert all_end()
    assert sorted(begun) == [0, 1, 2]


def test_one_thread_is_the_callers() -> None:
    """An Expander of one thread starts none, as a program that forks may ask of it."""
    ran: list[int] = []

    def run(text: TokenizedText) -> SparseVector:
        ran.append(threading.get_ident())
        return named(text)

    list(run_in_order(map(text_of, [1, 2]), run, threads=1, tokens_in_flight=10))
    assert ran == [threading.get_ident()] * 2
