from __future__ import annotations

import _thread
import gc
import subprocess
import sys
import threading
import time
import weakref
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from spladerunner.inference import worker_threads
from spladerunner.inference.admission import Admission, Ticket, Turn
from spladerunner.inference.worker_threads import Pool, Task, WorkerThreads


def all_end(seconds: float = 60) -> bool:
    """Waits until no worker thread is left. Polls, since joining a thread that has not started raises RuntimeError."""
    end = time.monotonic() + seconds
    while any(thread.name.startswith("spladerunner") for thread in threading.enumerate()):
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True


def ends(thread: threading.Thread) -> bool:
    thread.join(60)
    return not thread.is_alive()


def test_callers_share_a_pool_as_long_as_one_holds_it() -> None:
    workers = WorkerThreads(3)
    first, second, task = workers.pool(), workers.pool(), Task(threading.current_thread)
    first.submit(task)
    thread = task.result()
    assert first is second and thread.name == "spladerunner"
    del first
    assert thread.is_alive()
    del second
    assert ends(thread)
    task = Task(threading.current_thread)
    workers.pool().submit(task)
    other = task.result()
    assert other is not thread and ends(other)


def test_a_pool_has_as_many_threads_as_work_needs_and_no_more_than_asked() -> None:
    pool, gate, together = Pool(3), threading.Event(), threading.Barrier(4)
    tasks = [Task(lambda: (together.wait(60), gate.wait(60))) for _ in range(3)]
    for task in tasks:
        pool.submit(task)
    together.wait(60)
    last = Task(int)
    pool.submit(last)
    time.sleep(0.01)
    assert not last.done and len(pool._threads) == 3
    gate.set()
    assert last.result() == 0
    pool.end(wait=True)
    assert not any(thread.is_alive() for thread in pool._threads)


def test_a_task_raises_the_error_of_its_function_once_and_keeps_no_frame() -> None:
    class Large:
        pass

    def fail() -> None:
        large = Large()
        kept.append(weakref.ref(large))
        raise ZeroDivisionError

    kept = list[weakref.ref[Large]]()
    task = Task(fail)
    task()
    with pytest.raises(ZeroDivisionError):
        task.result()
    gc.disable()
    try:
        assert kept[0]() is None
    finally:
        gc.enable()


def test_a_task_keeps_neither_its_function_nor_a_result_that_was_taken() -> None:
    class Found:
        pass

    def function() -> Found:
        return Found()

    task, kept = Task(function), weakref.ref(function)
    del function
    task()
    assert kept() is None
    found = weakref.ref(task.result())
    assert found() is None


def test_a_cancelled_task_does_not_run() -> None:
    ran = list[int]()
    task = Task(lambda: ran.append(1))
    task.cancel()
    task()
    assert task.done and not ran


def test_work_runs_in_the_starting_thread_if_no_other_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    pool, tasks = Pool(2), [Task(threading.get_ident) for _ in range(3)]
    for task in tasks:
        pool.submit(task)
    assert threading.get_ident() not in [task.result() for task in tasks]
    pool.end(wait=True)


def test_a_system_without_threads_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        Pool(1).submit(int)


@pytest.mark.parametrize("moment", range(1, 40))
def test_an_interrupt_at_any_moment_leaves_a_pool_that_works(moment: int) -> None:
    steps = 0

    def interrupt(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal steps
        if frame.f_globals["__name__"] in (Pool.__module__, "threading") and event == "line":
            steps += 1
            if steps == moment:
                raise KeyboardInterrupt
        return interrupt

    pool, tasks = Pool(2), [Task(int) for _ in range(3)]
    before = sys.gettrace()
    sys.settrace(interrupt)
    try:
        for task in tasks:
            pool.submit(task)
        assert [task.result() for task in tasks] == [0, 0, 0]
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    last = Task(int)
    pool.submit(last)
    assert last.result() == 0
    pool.end(wait=True)


def test_a_pool_ends_though_some_of_its_threads_could_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The helper threads then run the work, and meet the end of the pool."""
    start, began, begin = threading.Thread.start, threading.Barrier(4), threading.Event()
    started = list[threading.Thread]()

    def limited(self: threading.Thread) -> None:
        if self.name == "spladerunner":
            if started:
                raise RuntimeError("can't start new thread")
            started.append(self)
        start(self)

    def work(seconds: float) -> None:
        began.wait(60)
        begin.wait(60)
        time.sleep(seconds)

    monkeypatch.setattr(threading.Thread, "start", limited)
    pool = Pool(2)
    for seconds in (0.1, 0, 0):
        pool.submit(Task(partial(work, seconds)))
        time.sleep(0.01)
    began.wait(60)
    begin.set()
    pool.end(wait=True)
    assert not started[0].is_alive()


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "vectors = expander.stream(f'the cat {n}' for n in range(100))\nnext(vectors)",
        "import asyncio\n"
        "async def main():\n"
        "    global call\n"
        "    call = expander.aencode(['the cat'] * 100)\n"
        "    call.send(None)\n"
        "asyncio.run(main())",
        "try:\n"
        "    expander.encode(f'the cat {n}' if n < 9 else None for n in range(100))\n"
        "except TypeError as error:\n"
        "    kept = error",
        "import threading\n"
        "def call():\n"
        "    for n in range(20):\n"
        "        assert len(expander.encode(f'the cat {n}')) == 1\n"
        "    print(end='.', flush=True)\n"
        "for _ in range(5):\n"
        "    threading.Thread(target=call).start()",
    ],
    ids=["suspended stream", "pending call", "error that is kept", "callers in threads"],
)
def test_the_interpreter_exits(bundle: Path, code: str) -> None:
    made = f"import sys\nfrom spladerunner import Expander\nexpander = Expander(sys.argv[1], threads=2)\n{code}\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", made, bundle], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "." * 5 * ("Thread" in code)


def test_work_that_waits_at_the_exit_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WorkerThreads, "exiting", False)
    pool, began, gate = Pool(1), threading.Barrier(2), threading.Event()
    running = Task(lambda: (began.wait(60), gate.wait(60)))
    waiting = [Task(int) for _ in range(3)]
    pool.submit(running)
    for task in waiting:
        pool.submit(task)
    began.wait(60)
    exiting = threading.Thread(target=worker_threads._end_all)
    exiting.start()
    time.sleep(0.01)
    gate.set()
    exiting.join(60)
    assert not exiting.is_alive() and running.done and not any(task.done for task in waiting)


def test_texts_that_wait_at_the_exit_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WorkerThreads, "exiting", False)
    admission, began, gate = Admission(1, 1, WorkerThreads(1)), threading.Barrier(2), threading.Event()
    place, ran = Ticket(1, lambda: None), list[object]()
    admission.arrive(place)
    first: Turn[object] = Turn(admission, 1, lambda: (began.wait(60), gate.wait(60)), lambda: None)
    turns = [first, *(Turn[object](admission, 1, lambda: ran.append(None), lambda: None) for _ in range(9))]
    for turn in turns:
        admission.arrive(turn.ticket)
    admission.leave(place)
    began.wait(60)
    exiting = threading.Thread(target=worker_threads._end_all)
    exiting.start()
    while not WorkerThreads.exiting:
        time.sleep(0.001)
    gate.set()
    exiting.join(60)
    assert not exiting.is_alive() and first.ran
    assert len(ran) <= 1, "a thread may take one more while the queue is emptied"
