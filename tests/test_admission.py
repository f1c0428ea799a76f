from __future__ import annotations

import linecache
import sys
import threading
import time
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spladerunner.inference.admission import OVERTAKING, Admission, Ticket

TraceFunction = Any


def waiting(admission: Admission, tokens: int, order: list[str], name: str) -> Ticket:
    ticket = Ticket(tokens, lambda: order.append(name))
    admission.arrive(ticket)
    return ticket


@pytest.mark.slow
@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 4), st.integers(1, 100))
def test_the_running_texts_never_pass_the_bounds_and_all_run(sizes: list[int], threads: int, limit: int) -> None:
    admission, granted = Admission(threads, limit), list[str]()
    tickets = {str(name): waiting(admission, tokens, granted, str(name)) for name, tokens in enumerate(sizes)}
    for _ in sizes:
        running = [tickets[name] for name in granted if admission.runs(tickets[name])]
        assert 1 <= len(running) <= threads
        assert sum(ticket.tokens for ticket in running) <= limit or len(running) == 1
        admission.leave(running[0])
    assert sorted(granted) == sorted(tickets)


def test_equal_texts_run_in_the_order_of_their_arrival() -> None:
    admission, order = Admission(1, 10), list[str]()
    for ticket in [waiting(admission, 5, order, name) for name in "abcde"]:
        admission.leave(ticket)
    assert order == list("abcde")


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
    assert order == ["first", "last"] and admission.runs(last)
    admission.leave(last)
    admission.leave(last)
    assert admission.runs(waiting(admission, 5, order, "again"))


@pytest.mark.parametrize("others", [1, 2, 3])
@pytest.mark.parametrize("moment", range(1, 90))
def test_an_interrupt_at_any_moment_leaves_no_place_taken(moment: int, others: int) -> None:
    """An exception before the line with this number, of all that a call and the one after it run."""
    admission, order = Admission(1, 10), list[str]()
    lines = 0

    def interrupt(frame: FrameType, event: str, argument: object) -> TraceFunction | None:
        nonlocal lines
        if frame.f_globals["__name__"] != Admission.__module__:
            return None
        # Python handles no signal at these lines: the end of a with block, and the start of a try.
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and not line.startswith(("with", "try")):
            lines += 1
            if lines == moment:
                raise KeyboardInterrupt
        return interrupt

    tickets = [waiting(admission, 5, order, "other") for _ in range(others)]
    before = sys.gettrace()
    sys.settrace(interrupt)
    try:
        for ticket in tickets:
            admission.leave(ticket)
        with admission.admit(5):
            pass
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    for ticket in tickets:
        admission.leave(ticket)
    last = waiting(admission, 5, order, "last")
    assert admission.runs(last) and order[-1] == "last" and order.count("other") >= 1


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
