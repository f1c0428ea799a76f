from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spladerunner.inference.admission import OVERTAKING, Admission, Ticket


def waiting(admission: Admission, tokens: int, order: list[str], name: str) -> Ticket:
    return admission.arrive(tokens, lambda: order.append(name))


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 4), st.integers(1, 100))
def test_the_running_texts_never_pass_the_bounds_and_all_run(sizes: list[int], threads: int, limit: int) -> None:
    admission, granted = Admission(threads, limit), []
    tickets = {}
    for name, tokens in enumerate(sizes):
        tickets[name] = admission.arrive(tokens, lambda name=name: granted.append(name))  # type: ignore[misc]
    done = 0
    while done < len(sizes):
        running = [name for name in granted if tickets[name].running]
        assert 1 <= len(running) <= threads
        assert sum(sizes[name] for name in running) <= limit or len(running) == 1
        admission.leave(tickets[running[0]])
        done += 1
    assert sorted(granted) == list(range(len(sizes)))


def test_equal_texts_run_in_the_order_of_their_arrival() -> None:
    admission, order = Admission(1, 10), []
    tickets = [admission.arrive(5, lambda name=name: order.append(name)) for name in range(5)]  # type: ignore[misc]
    for ticket in tickets:
        admission.leave(ticket)
    assert order == [0, 1, 2, 3, 4]


def test_a_short_query_passes_long_documents_that_wait() -> None:
    admission, order = Admission(1, 256), list[str]()
    running = waiting(admission, 256, order, "running")
    for _ in range(40):
        waiting(admission, 256, order, "document")
    waiting(admission, 8, order, "query")
    admission.leave(running)
    assert order == ["running", "query"]


def test_a_document_is_passed_by_a_bounded_number_of_tokens() -> None:
    """Queries arrive without end; the document runs after OVERTAKING times its tokens."""
    admission, order = Admission(1, 256), list[str]()
    running = waiting(admission, 8, order, "query")
    waiting(admission, 100, order, "document")
    while "document" not in order:
        arrived = waiting(admission, 8, order, "query")
        admission.leave(running)
        running = arrived
        assert len(order) * 8 <= OVERTAKING * 100 + 16


def test_a_withdrawn_text_never_runs_and_holds_nothing() -> None:
    admission, order = Admission(1, 10), list[str]()
    first = waiting(admission, 5, order, "first")
    admission.leave(waiting(admission, 5, order, "withdrawn"))
    last = waiting(admission, 5, order, "last")
    admission.leave(first)
    assert order == ["first", "last"] and last.running
    admission.leave(last)
    admission.leave(last)
    assert waiting(admission, 5, order, "again").running


def test_a_text_whose_caller_is_gone_is_withdrawn() -> None:
    def closed() -> None:
        raise RuntimeError("Event loop is closed")

    admission, order = Admission(1, 10), list[str]()
    first = waiting(admission, 5, order, "first")
    admission.arrive(5, closed)
    last = waiting(admission, 5, order, "last")
    admission.leave(first)
    assert last.running


@settings(deadline=None, max_examples=5)
@given(st.integers(1, 3))
def test_threads_take_turns(threads: int) -> None:
    admission, lock = Admission(threads, 1000), threading.Lock()
    running = most = 0

    def caller() -> None:
        nonlocal running, most
        for _ in range(5):
            with admission.admit(10):
                with lock:
                    running += 1
                    most = max(most, running)
                time.sleep(0.001)
                with lock:
                    running -= 1

    callers = [threading.Thread(target=caller) for _ in range(8)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    assert most == threads and running == 0


def test_an_error_in_a_run_frees_its_place() -> None:
    admission = Admission(1, 10)
    with pytest.raises(KeyError), admission.admit(5):
        raise KeyError
    with admission.admit(5):
        pass
