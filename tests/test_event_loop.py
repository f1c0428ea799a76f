"""The awaitable form: an event loop is never blocked, and a cancelled call leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spladerunner import Expander, ModelFilesError
from spladerunner.inference.admission import Admission, Ticket
from spladerunner.inference.event_loop import Step, map_in_order, run_admitted
from spladerunner.inference.session import Session
from spladerunner.inference.tokenizer import Tokenizer
from spladerunner.inference.worker_threads import Pool, Task, WorkerThreads
from spladerunner.model.manifest import MANIFEST, Manifest
from tests.small_model import SYMMETRIC, SmallGraph, change_manifest, tokenizer
from tests.test_worker_threads import all_end

TEXTS = ["the cat sat on the mat", "", "naïve dogs", "money!", "the " * 60, "数 😀 \ud800"]
PATIENCE = 60


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    assert all_end(PATIENCE)


class Gate:
    """Holds calls back, in their threads, until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self._open = threading.Event()
        self._lock = threading.Lock()
        self.inside = self.most_inside = 0

    def open(self) -> None:
        self._open.set()

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def held_back(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                self.inside += 1
                self.most_inside = max(self.inside, self.most_inside)
            self.reached.release()
            assert self._open.wait(PATIENCE), "the event loop did not open the gate: it is blocked"
            try:
                return function(*arguments, **options)
            finally:
                with self._lock:
                    self.inside -= 1

        return held_back

    async def reached_by(self, calls: int) -> None:
        for _ in range(calls):
            while not self.reached.acquire(blocking=False):
                await asyncio.sleep(0.001)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    made = Gate()
    monkeypatch.setattr(Session, "run", made.around(Session.run))
    return made


def is_idle(*admissions: Admission) -> bool:
    """True if a text that needs all the room may run at once."""
    granted = list[bool]()
    for admission in admissions:
        ticket = Ticket(1 << 40, lambda: granted.append(True))
        admission.arrive(ticket)
        admission.leave(ticket)
    return len(granted) == len(admissions)


async def settle(expander: Expander) -> None:
    """Waits until no text is tokenized or runs."""
    while not is_idle(expander._tokenizing, expander._running):
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_call_awaited_gives_the_vectors_of_the_call(bundle: Path, threads: int) -> None:
    expander = Expander(bundle, threads=threads)
    assert asyncio.run(expander.aencode(TEXTS)) == expander.encode(TEXTS)
    assert asyncio.run(expander.aencode(iter(TEXTS), role="query")) == expander.encode(TEXTS, role="query")
    assert asyncio.run(expander.aexpand("the cat")) == expander.expand("the cat")
    assert asyncio.run(expander.aexpand_query(("the cat", "dog"))) == expander.expand_query(["the cat", "dog"])
    assert asyncio.run(expander.aencode([])) == []


def test_a_call_awaited_reads_the_prompt_of_its_role(bundle: Path) -> None:
    without = Expander(bundle).encode("the cat")
    roles = Manifest.read(bundle / MANIFEST).roles
    change_manifest(bundle, roles={name: replace(role, prompt="river bank ") for name, role in roles.items()})
    expander = Expander(bundle)
    assert asyncio.run(expander.aencode("the cat")) == expander.encode("the cat") != without


def test_many_callers_on_two_loops_and_in_threads_get_their_own_vectors(bundle: Path) -> None:
    expander = Expander(bundle, threads=2)
    expected = {text: expander.encode(text) for text in TEXTS}

    async def calls() -> None:
        texts = TEXTS * 20
        assert await asyncio.gather(*map(expander.aencode, texts)) == [expected[text] for text in texts]

    with ThreadPoolExecutor(4) as callers:
        loops = [callers.submit(asyncio.run, calls()) for _ in range(2)]
        threads = [callers.submit(lambda: [expander.encode(text) for text in TEXTS * 20]) for _ in range(2)]
        for loop in loops:
            loop.result()
        for thread in threads:
            assert thread.result() == list(expected.values()) * 20


@pytest.mark.parametrize(("owner", "step"), [(Tokenizer, "encode"), (Session, "run"), (Expander, "_open")])
def test_the_loop_runs_while_a_text_is_tokenized_and_run_and_a_graph_is_opened(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, owner: type, step: str
) -> None:
    """Each step waits in its thread for what the loop does after it has begun."""
    expected = Expander(bundle).expand("the cat")
    gate = Gate()
    monkeypatch.setattr(owner, step, gate.around(getattr(owner, step)))

    async def main() -> None:
        call = asyncio.create_task(Expander(bundle).aexpand("the cat"))
        await gate.reached_by(1)
        assert not call.done()
        gate.open()
        assert await call == expected

    asyncio.run(main())


def test_a_call_that_is_cancelled_in_the_queue_is_withdrawn(bundle: Path, gate: Gate) -> None:
    expander = Expander(bundle, threads=1)

    async def main() -> tuple[Any, ...]:
        running = asyncio.create_task(expander.aencode("the cat"))
        await gate.reached_by(1)
        waiting = [asyncio.create_task(expander.aencode(["dog", "river"])) for _ in range(3)]
        await asyncio.sleep(0.01)
        waiting[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[1]
        assert not any(task.done() for task in (running, waiting[0], waiting[2]))
        gate.open()
        return await running, await waiting[0], await waiting[2]

    found = asyncio.run(main())
    assert found == (expander.encode("the cat"), *[expander.encode(["dog", "river"])] * 2)
    assert gate.most_inside == 1 and is_idle(expander._tokenizing, expander._running)


def test_a_text_that_runs_keeps_its_place_when_its_call_is_cancelled(bundle: Path, gate: Gate) -> None:
    """So no more than `threads` run; the call itself ends at once."""
    expander = Expander(bundle, threads=1)

    async def main() -> None:
        running = asyncio.create_task(expander.aencode(["the cat"] * 100))
        await gate.reached_by(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        waiting = asyncio.create_task(expander.aencode("dog"))
        await asyncio.sleep(0.01)
        assert gate.inside == 1 and not waiting.done()
        gate.open()
        assert len(await waiting) == 1
        await settle(expander)

    asyncio.run(main())
    assert gate.most_inside == 1


def test_a_call_that_is_cancelled_while_its_text_is_tokenized_runs_nothing(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, ran = Gate(), list[object]()
    monkeypatch.setattr(Tokenizer, "encode", gate.around(Tokenizer.encode))
    monkeypatch.setattr(Session, "run", lambda self, text: ran.append(text))
    expander = Expander(bundle, threads=2)

    async def main() -> None:
        call = asyncio.create_task(expander.aencode(["the cat", "dog", "river"]))
        await gate.reached_by(2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        gate.open()
        await settle(expander)

    asyncio.run(main())
    assert not ran and gate.inside == 0


def test_a_time_limit_cancels_a_call(bundle: Path, gate: Gate) -> None:
    expander = Expander(bundle, threads=1)

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(expander.aencode(["the cat"] * 5), 0.01)
        gate.open()
        await settle(expander)
        assert len(await expander.aencode("the cat")) == 1

    asyncio.run(main())


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=12), st.integers(1, 3), st.integers(0, 9)
)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_calls_that_are_cancelled_anywhere_take_nothing_from_others(
    bundle: Path, calls: list[tuple[int, bool]], threads: int, steps: int
) -> None:
    expander = Expander(bundle, threads=threads)
    (expected,) = expander.encode("the cat")

    async def main() -> None:
        tasks = [(asyncio.create_task(expander.aencode(["the cat"] * size)), cancel) for size, cancel in calls]
        for _ in range(steps):
            await asyncio.sleep(0)
        for task, cancel in tasks:
            if cancel:
                task.cancel()
        for (task, cancel), (size, _) in zip(tasks, calls, strict=True):
            if cancel:
                await asyncio.wait([task])
                assert task.cancelled() or task.result() == [expected] * size
            else:
                assert await task == [expected] * size
        await settle(expander)

    asyncio.run(main())


@pytest.mark.parametrize("bad", [None, 7, b"bytes"])
def test_a_non_string_is_an_error_with_its_index(bundle: Path, bad: Any) -> None:
    expander = Expander(bundle)
    with pytest.raises(TypeError, match=r"texts\[1\] must be a str"):
        asyncio.run(expander.aencode(["the cat", bad]))
    with pytest.raises(TypeError, match="texts must be a str or an iterable"):
        asyncio.run(expander.aencode(bad))
    with pytest.raises(ValueError, match="role='title'"):
        asyncio.run(expander.aencode("the cat", role="title"))  # type: ignore[arg-type]


def test_an_error_of_the_model_is_raised_and_frees_all_places(tmp_path: Path) -> None:
    SmallGraph().save(tmp_path / "model.onnx", factor=float("nan"))
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    expander = Expander(tmp_path, threads=2, **SYMMETRIC)

    async def main() -> None:
        with pytest.raises(ModelFilesError, match="NaN"):
            await expander.aencode(["the cat"] * 50)
        await settle(expander)

    asyncio.run(main())


def test_work_that_is_cancelled_before_its_thread_begins_frees_its_place() -> None:
    workers, release = WorkerThreads(1), threading.Event()
    pool, last = workers.pool(), Task(int)
    admission, ran = Admission(5, 5, workers), list[object]()

    async def main() -> None:
        pool.submit(lambda: release.wait(PATIENCE))
        call = asyncio.create_task(run_admitted(Step(admission, 5, lambda: ran.append(None))))
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert is_idle(admission)
        release.set()

    asyncio.run(main())
    pool.submit(last)
    assert last.result() == 0 and not ran


def test_texts_of_a_loop_that_was_closed_hold_no_place() -> None:
    """A program may close a loop whose tasks still wait."""
    admission = Admission(1, 5, WorkerThreads(1))
    running, ran = Ticket(5, lambda: None), threading.Event()
    admission.arrive(running)
    loop = asyncio.new_event_loop()
    call = loop.create_task(run_admitted(Step(admission, 5, ran.set)))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    admission.leave(running)
    assert ran.wait(PATIENCE)
    assert admission.run(5, lambda: 7) == 7 and is_idle(admission) and not call.done()
    call._log_destroy_pending = False  # type: ignore[attr-defined]
    call.get_coro().close()


@pytest.mark.parametrize("turn_has_come", [True, False])
def test_a_coroutine_that_is_dropped_holds_no_place(turn_has_come: bool) -> None:
    """The garbage collector may close it, and must not take a lock."""
    admission, running, ran = Admission(1, 5, WorkerThreads(1)), Ticket(5, lambda: None), list[object]()
    admission.arrive(running)

    async def main() -> None:
        call = run_admitted(Step(admission, 5, lambda: ran.append(None)))
        call.send(None)
        if turn_has_come:
            admission.leave(running)
        with admission._lock:
            call.close()
        admission.leave(running)

    asyncio.run(main())
    assert admission.run(5, lambda: 7) == 7 and is_idle(admission)
    assert len(ran) <= turn_has_come


def test_a_text_that_waits_runs_though_the_coroutine_before_it_was_dropped_on_its_way_to_a_thread() -> None:
    workers, gate = WorkerThreads(1), threading.Event()
    admission, pool, ran = Admission(1, 5, workers), workers.pool(), list[object]()
    pool.submit(lambda: gate.wait(PATIENCE))

    async def main() -> int:
        dropped = run_admitted(Step(admission, 5, lambda: ran.append(None)))
        dropped.send(None)
        waits = asyncio.create_task(run_admitted(Step(admission, 5, lambda: 7)))
        while not admission._waiting:
            await asyncio.sleep(0.001)
        dropped.close()
        gate.set()
        return await asyncio.wait_for(waits, PATIENCE)

    assert asyncio.run(main()) == 7 and not ran and is_idle(admission)


def test_a_withdrawal_that_is_interrupted_takes_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    admission, running = Admission(1, 5, WorkerThreads(1)), Ticket(5, lambda: None)
    admission.arrive(running)
    leave, interrupts = Admission.leave, [KeyboardInterrupt()]

    def interrupted(self: Admission, ticket: Ticket) -> None:
        if interrupts:
            raise interrupts.pop()
        leave(self, ticket)

    call = run_admitted(Step(admission, 5, lambda: None))

    async def main() -> None:
        call.send(None)
        with monkeypatch.context() as patch:
            patch.setattr(Admission, "leave", interrupted)
            with pytest.raises(KeyboardInterrupt):
                call.throw(asyncio.CancelledError())

    asyncio.run(main())
    admission.leave(running)
    assert is_idle(admission) and not interrupts


def test_an_await_says_that_no_worker_can_take_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Pool, work: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Pool, "submit", refuse)
    admission = Admission(1, 5, WorkerThreads(1))
    with pytest.raises(RuntimeError, match="can't start new thread"):
        asyncio.run(run_admitted(Step(admission, 5, lambda: None)))
    assert is_idle(admission)


def test_the_thread_that_ends_a_step_begins_the_next_and_each_step_has_a_place_of_its_own() -> None:
    workers, threads = WorkerThreads(4), list[threading.Thread]()
    tokenizing, running = Admission(1, 5, workers), Admission(1, 5, workers)

    def tokenize() -> Step[bool]:
        threads.append(threading.current_thread())
        return Step(running, 4, run)

    def run() -> bool:
        threads.append(threading.current_thread())
        return is_idle(tokenizing) and not is_idle(running)

    async def main() -> bool:
        pool = workers.pool()
        try:
            return await run_admitted(Step[bool](tokenizing, 3, tokenize))
        finally:
            del pool

    assert asyncio.run(main()) and is_idle(tokenizing, running)
    assert len(threads) == 2 and len({*threads}) == 1


@pytest.mark.parametrize("give_up", ["cancel", "close"])
@pytest.mark.parametrize("step", ["first", "second waits", "second runs"])
def test_a_call_that_is_given_up_at_any_step_frees_its_places_and_begins_nothing(give_up: str, step: str) -> None:
    workers, gate = WorkerThreads(4), Gate()
    tokenizing, running = Admission(1, 5, workers), Admission(1, 5, workers)
    before, ran = Ticket(5, lambda: None), list[object]()
    if step == "second waits":
        running.arrive(before)

    def run() -> None:
        ran.append(None)

    def tokenize() -> Step[None]:
        return Step(running, 5, gate.around(run) if step == "second runs" else run)

    first: Callable[[], Step[None]] = gate.around(tokenize) if step == "first" else tokenize

    async def main() -> None:
        call = run_admitted(Step[None](tokenizing, 5, first))
        if give_up == "cancel":
            task = asyncio.create_task(call)
            await asyncio.sleep(0)
        else:
            call.send(None)
        if step == "second waits":
            while not running._waiting:
                await asyncio.sleep(0.001)
        else:
            await gate.reached_by(1)
        if give_up == "cancel":
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            with tokenizing._lock, running._lock:
                call.close()
        gate.open()
        running.leave(before)
        while not is_idle(tokenizing, running):
            await asyncio.sleep(0.001)

    asyncio.run(main())
    assert len(ran) == (step == "second runs")


def test_a_coroutine_that_is_dropped_after_a_refusal_holds_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Pool, work: object) -> None:
        raise RuntimeError("can't start new thread")

    admission = Admission(1, 5, WorkerThreads(1))

    async def main() -> None:
        call = run_admitted(Step(admission, 5, lambda: None))
        with monkeypatch.context() as patch:
            patch.setattr(Pool, "submit", refuse)
            call.send(None)
        call.close()

    asyncio.run(main())
    assert is_idle(admission)


def test_a_refusal_that_is_kept_keeps_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    workers, submit = WorkerThreads(2), Pool.submit
    admission, pool = Admission(1, 5, workers), workers.pool()
    pool.submit(lambda: None)

    def refuse(self: Pool, work: object) -> None:
        monkeypatch.setattr(Pool, "submit", submit)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Pool, "submit", refuse)
    with pytest.raises(RuntimeError) as kept:
        asyncio.run(run_admitted(Step(admission, 5, lambda: None)))
    del pool
    assert all_end(PATIENCE) and kept.value


def test_a_step_that_was_run_is_not_kept() -> None:
    """Its text may be large."""

    class Text:
        pass

    kept = list[weakref.ref[Text]]()
    admission = Admission(1, 5, WorkerThreads(1))

    def run(text: Text) -> int:
        return 7

    def tokenize() -> Step[int]:
        text = Text()
        kept.append(weakref.ref(text))
        return Step(admission, 5, partial(run, text))

    gc.disable()
    try:
        assert asyncio.run(run_admitted(Step[int](admission, 5, tokenize))) == 7
        assert all_end(PATIENCE) and kept[0]() is None
    finally:
        gc.enable()


def test_an_await_waits_for_a_step_that_was_refused_and_yet_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that cannot start a thread keeps the work, and another of its threads may take it."""

    def submit(self: Pool, work: Callable[[], object]) -> None:
        monkeypatch.undo()
        begun = threading.Barrier(2)
        threading.Thread(target=lambda: (begun.wait(PATIENCE), work())).start()
        begun.wait(PATIENCE)
        time.sleep(0.01)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Pool, "submit", submit)
    admission, gate = Admission(1, 5, WorkerThreads(1)), Gate()

    def first() -> Step[int]:
        return Step(admission, 5, gate.around(lambda: 7))

    async def main() -> int:
        call = asyncio.create_task(run_admitted(Step[int](admission, 5, first)))
        await gate.reached_by(1)
        gate.open()
        return await call

    assert asyncio.run(main()) == 7 and is_idle(admission)


def test_no_more_than_asked_are_awaited_at_once_and_an_error_cancels_the_rest() -> None:
    begun = list[int]()

    async def fail_at_three(number: int) -> int:
        begun.append(number)
        await asyncio.sleep(0)
        if number == 3:
            raise KeyError(number)
        return -number

    assert asyncio.run(map_in_order(fail_at_three, [0, 1, 2], at_once=2)) == [0, -1, -2]
    begun.clear()
    with pytest.raises(KeyError):
        asyncio.run(map_in_order(fail_at_three, range(100), at_once=2))
    assert len(begun) < 10


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_of_fork_awaits_on_a_loop_of_its_own(bundle: Path) -> None:
    code = (
        "import asyncio, os, sys\n"
        "from spladerunner import Expander\n"
        "expander = Expander(sys.argv[1], threads=2)\n"
        "async def main():\n"
        "    call = asyncio.create_task(expander.aencode(['the cat sat'] * 200))\n"
        "    await asyncio.sleep(0.01)\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        os._exit(0 if len(expander.encode('the cat')) == 1 else 1)\n"
        "    return os.waitpid(child, 0)[1], len(await call)\n"
        "print(asyncio.run(main()), flush=True)\n"
        "if not os.fork():\n"
        "    print(len(expander.encode('the cat')), len(asyncio.run(expander.aencode('the cat'))), flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, bundle], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "(0, 200)\n1 1\n", done.stderr
