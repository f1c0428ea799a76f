from __future__ import annotations

import gc
import linecache
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spladerunner.inference.admission import OVERTAKING, Admission, Ticket, Turn
from spladerunner.inference.worker_threads import Pool, WorkerThreads
from tests.test_worker_threads import all_end

TraceFunction = Any


def admission_of(threads: int, tokens: int) -> Admission:
    return Admission(threads, tokens, WorkerThreads(threads))


def waiting(admission: Admission, tokens: int, order: list[str], name: str) -> Ticket:
    ticket = Ticket(tokens, lambda: order.append(name))
    admission.arrive(ticket)
    return ticket


@pytest.mark.slow
@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 4), st.integers(1, 100))
def test_the_running_texts_never_pass_the_bounds_and_all_run(sizes: list[int], threads: int, limit: int) -> None:
    admission, granted = admission_of(threads, limit), list[str]()
    tickets = {str(name): waiting(admission, tokens, granted, str(name)) for name, tokens in enumerate(sizes)}
    for _ in sizes:
        running = [tickets[name] for name in granted if admission.runs(tickets[name])]
        assert 1 <= len(running) <= threads
        assert sum(ticket.tokens for ticket in running) <= limit or len(running) == 1
        admission.leave(running[0])
    assert sorted(granted) == sorted(tickets)


def test_an_arrival_notifies_a_text_of_which_an_interrupt_left_only_the_place() -> None:
    admission, order = admission_of(2, 10), list[str]()
    ticket = Ticket(5, lambda: order.append("interrupted"))
    admission._running.add(ticket)
    waiting(admission, 5, order, "other")
    assert order == ["interrupted", "other"]
    admission.leave(ticket)
    assert order == ["interrupted", "other"] and not admission.runs(ticket)


def test_equal_texts_run_in_the_order_of_their_arrival() -> None:
    admission, order = admission_of(1, 10), list[str]()
    for ticket in [waiting(admission, 5, order, name) for name in "abcde"]:
        admission.leave(ticket)
    assert order == list("abcde")


def test_a_short_query_passes_long_documents_that_wait() -> None:
    admission, order = admission_of(1, 256), list[str]()
    running = waiting(admission, 256, order, "running")
    for _ in range(40):
        waiting(admission, 256, order, "document")
    waiting(admission, 8, order, "query")
    admission.leave(running)
    assert order == ["running", "query"]


def test_a_document_is_passed_by_a_bounded_number_of_tokens() -> None:
    """Queries arrive without end; the document runs after OVERTAKING times its tokens."""
    admission, order = admission_of(1, 256), list[str]()
    running = waiting(admission, 8, order, "query")
    waiting(admission, 100, order, "document")
    while "document" not in order:
        arrived = waiting(admission, 8, order, "query")
        admission.leave(running)
        running = arrived
        assert len(order) * 8 <= OVERTAKING * 100 + 16


def test_a_withdrawn_text_never_runs_and_holds_nothing() -> None:
    admission, order = admission_of(1, 10), list[str]()
    first = waiting(admission, 5, order, "first")
    admission.leave(waiting(admission, 5, order, "withdrawn"))
    last = waiting(admission, 5, order, "last")
    admission.leave(first)
    assert order == ["first", "last"] and admission.runs(last)
    admission.leave(last)
    admission.leave(last)
    assert admission.runs(waiting(admission, 5, order, "again"))


@pytest.mark.parametrize("others", [1, 2, 3])
@pytest.mark.parametrize("moment", range(1, 150))
def test_an_interrupt_at_any_moment_leaves_no_place_taken(moment: int, others: int) -> None:
    """An exception before the line with this number, of all that a call and the one after it run."""
    admission, order = admission_of(1, 10), list[str]()
    tickets = [waiting(admission, 5, order, "other") for _ in range(others)]
    with interrupted(moment):
        for ticket in tickets:
            admission.leave(ticket)
        assert admission.run(5, lambda: 7) == 7
    for ticket in tickets:
        admission.leave(ticket)
    assert is_idle(admission) and order.count("other") >= 1


@pytest.mark.parametrize("moment", range(1, 100))
def test_an_interrupt_of_a_caller_that_waits_leaves_no_place_taken(moment: int) -> None:
    """A thread ends what runs, so that a worker takes what waits."""
    admission, order = admission_of(1, 10), list[str]()
    running = waiting(admission, 5, order, "running")

    def end_it() -> None:
        while not admission._waiting:
            time.sleep(0.0001)
        admission.leave(running)

    ending = threading.Thread(target=end_it)
    ending.start()
    with interrupted(moment):
        assert admission.run(5, lambda: 7) == 7
    waiting(admission, 5, order, "last")  # so that the thread ends
    ending.join()
    while "last" not in order:
        time.sleep(0.001)


@pytest.mark.parametrize("moment", range(1, 40))
def test_an_interrupt_of_a_refused_hand_over_leaves_no_caller_waiting(
    moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, refusals = Pool.submit, [RuntimeError("can't start new thread")]

    def refuse_once(self: Pool, work: Callable[[], object]) -> None:
        if refusals:
            raise refusals.pop()
        submit(self, work)

    monkeypatch.setattr(Pool, "submit", refuse_once)
    admission, order = admission_of(1, 10), list[str]()
    running = waiting(admission, 5, order, "running")
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(admission.run, 5, lambda: 7)
        while not admission._waiting:
            time.sleep(0.0001)
        with interrupted(moment):
            admission.leave(running)
        admission.leave(running)
        assert call.result(60) == 7 and not refusals
    assert is_idle(admission)
    gc.collect()  # an interrupt where an error is handled leaves a cycle of its frames, which hold the pool
    assert all_end()


@contextmanager
def interrupted(moment: int) -> Iterator[None]:
    """Raises KeyboardInterrupt before the n-th line of admission.py that this thread runs. moment: n."""
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

    before = sys.gettrace()
    sys.settrace(interrupt)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)


def is_idle(admission: Admission) -> bool:
    ticket = Ticket(10, lambda: None)
    admission.arrive(ticket)
    try:
        return admission.runs(ticket)
    finally:
        admission.leave(ticket)


@settings(deadline=None, max_examples=5)
@given(st.integers(1, 3))
def test_threads_take_turns(threads: int) -> None:
    admission, lock = admission_of(threads, 1000), threading.Lock()
    running = most = 0

    def run() -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.001)
        with lock:
            running -= 1
        return 7

    def caller() -> None:
        for _ in range(5):
            assert admission.run(10, run) == 7

    callers = [threading.Thread(target=caller) for _ in range(8)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    assert most == threads and running == 0


def test_an_error_in_a_run_frees_its_place() -> None:
    admission = admission_of(1, 10)
    with pytest.raises(ZeroDivisionError):
        admission.run(5, lambda: 1 // 0)
    assert is_idle(admission)


def test_work_runs_here_if_there_is_a_place_and_otherwise_in_a_worker_that_goes_on_with_what_waits() -> None:
    admission, order = admission_of(1, 10), list[str]()
    assert admission.run(5, threading.current_thread) is threading.current_thread()
    running = waiting(admission, 5, order, "running")
    with ThreadPoolExecutor(4) as callers:
        calls = [callers.submit(admission.run, 5, threading.current_thread) for _ in range(3)]
        failing = callers.submit(admission.run, 5, lambda: 1 // 0)
        while len(admission._waiting) < 4:
            time.sleep(0.001)
        admission.leave(running)
        (worker,) = {call.result() for call in calls}
        assert worker.name.startswith("spladerunner")
        with pytest.raises(ZeroDivisionError):
            failing.result()
    worker.join(60)
    assert not worker.is_alive() and is_idle(admission)


def test_a_worker_goes_on_with_what_waits_and_no_other_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    workers, order, submitted = WorkerThreads(4), list[str](), list[object]()
    submit = Pool.submit

    def counted(self: Pool, work: Callable[[], object]) -> None:
        submitted.append(work)
        submit(self, work)

    monkeypatch.setattr(Pool, "submit", counted)
    admission = Admission(1, 10, workers)
    running = waiting(admission, 5, order, "running")

    def run() -> tuple[threading.Thread, bool]:
        time.sleep(0.001)  # the thread that started this one holds the pool for a moment
        return threading.current_thread(), workers._shared is not None and workers._shared() is not None

    with ThreadPoolExecutor(20) as callers:
        calls = [callers.submit(admission.run, 5, run) for _ in range(20)]
        while len(admission._waiting) < 20:
            time.sleep(0.001)
        admission.leave(running)
        ((_, pool_exists),) = {call.result() for call in calls}
    assert len(submitted) == 1 and pool_exists


def test_texts_that_one_end_lets_run_do_so_at_once() -> None:
    admission, order = admission_of(2, 10), list[str]()
    began, gate, together = threading.Barrier(2), threading.Event(), threading.Barrier(2)
    running = waiting(admission, 10, order, "running")
    with ThreadPoolExecutor(3) as callers:
        long = callers.submit(admission.run, 10, lambda: (began.wait(60), gate.wait(60)))
        while not admission._waiting:
            time.sleep(0.001)
        admission.leave(running)
        began.wait(60)
        short = [callers.submit(admission.run, 5, lambda: together.wait(60)) for _ in range(2)]
        while len(admission._waiting) < 2:
            time.sleep(0.001)
        gate.set()
        assert sorted(call.result() for call in short) == [0, 1]
        long.result()
    assert is_idle(admission)


def test_a_caller_runs_its_own_work_when_no_worker_can_take_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Pool, work: object) -> None:
        raise RuntimeError("can't start new thread")

    admission, order = admission_of(1, 10), list[str]()
    running = waiting(admission, 5, order, "running")
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(admission.run, 5, threading.current_thread)
        while not admission._waiting:
            time.sleep(0.001)
        with monkeypatch.context() as patch:
            patch.setattr(Pool, "submit", refuse)
            admission.leave(running)
        caller = call.result()
        assert caller in callers._threads and is_idle(admission)


def test_a_refused_text_that_another_end_granted_with_it_frees_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two texts that an end lets run, the worker runs one, and hands over the other."""
    admission, order, ended = admission_of(2, 10), list[str](), list[str]()
    running, submit = waiting(admission, 10, order, "running"), Pool.submit
    began, gate = threading.Barrier(2), threading.Event()
    first = Turn(admission, 10, lambda: (began.wait(60), gate.wait(60)), lambda: ended.append("first"))
    turns = [Turn(admission, 5, lambda: None, partial(ended.append, name)) for name in ("second", "third")]
    admission.arrive(first.ticket)
    admission.leave(running)
    began.wait(60)
    for turn in turns:
        admission.arrive(turn.ticket)

    def refuse(self: Pool, work: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Pool, "submit", refuse)
    gate.set()
    while len(ended) < 3:
        time.sleep(0.001)
    monkeypatch.setattr(Pool, "submit", submit)
    assert admission.run(10, lambda: 7) == 7 and is_idle(admission)
    assert [turn.ran for turn in turns].count(True) == 1
    (refused,) = (turn for turn in turns if not turn.ran)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        refused.result()


def test_a_caller_whose_work_is_refused_and_yet_begun_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that cannot start a thread keeps the work, and another of its threads may take it."""
    release = threading.Event()

    def submit(self: Pool, work: Callable[[], object]) -> None:
        threading.Thread(target=work).start()
        time.sleep(0.01)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Pool, "submit", submit)
    admission, order = admission_of(1, 10), list[str]()
    running = waiting(admission, 5, order, "running")
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(admission.run, 5, lambda: release.wait(60))
        while not admission._waiting:
            time.sleep(0.001)
        admission.leave(running)
        assert not is_idle(admission)
        release.set()
        assert call.result() is True
    assert is_idle(admission)


def test_a_ticket_has_one_owner() -> None:
    ticket, first, second = Ticket(1, lambda: None), object(), object()
    assert [ticket.claim(owner) for owner in (first, second, first, second)] == [True, False, True, False]


def test_a_result_is_kept_though_the_pool_refused_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of the pool ran it at once, before the pool could not start another one."""
    ran = threading.Event()

    def submit(self: Pool, work: Callable[[], object]) -> None:
        threading.Thread(target=work).start()
        ran.wait(60)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Pool, "submit", submit)
    admission, order = admission_of(1, 10), list[str]()
    running = waiting(admission, 5, order, "running")

    def run() -> int:
        ran.set()
        return 7

    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(admission.run, 5, run)
        while not admission._waiting:
            time.sleep(0.001)
        admission.leave(running)
        assert call.result() == 7


def test_a_function_that_is_handed_over_twice_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt may come between the hand-over and the note of it; the first one runs meanwhile."""
    given = list[Callable[[], object]]()

    def submit(self: Pool, work: Callable[[], object]) -> None:
        while given:
            given.pop()()
        given.append(work)

    monkeypatch.setattr(Pool, "submit", submit)
    admission, ran = admission_of(1, 10), list[str]()
    turn = Turn(admission, 5, lambda: ran.append("ran"), lambda: ran.append("ended"))
    turn.ticket.granted()
    turn.ticket.granted()
    given.pop()()
    assert ran == ["ran", "ended"] and turn._pool is None
