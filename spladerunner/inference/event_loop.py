"""Runs texts for callers on event loops.

A caller waits for its turn as a coroutine; only a text that is tokenized or runs takes a thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from spladerunner.inference.admission import Admission, Ticket
from spladerunner.inference.fork import renew_in_child

Given = TypeVar("Given")
Result = TypeVar("Result")


class WorkerThreads:
    """Threads that all calls on event loops share, as long as there is such a call.

    most: the most threads. It must be as many as admissions grant places, since work that has a place must not wait.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._renew_locks()
        renew_in_child(self)

    def _renew_locks(self) -> None:
        """Forgets the threads: a child of fork does not have them."""
        # A coroutine that is abandoned leaves from the garbage collector, maybe inside this lock.
        self._lock = threading.RLock()
        self._executor: ThreadPoolExecutor | None = None
        self._calls = 0

    @contextmanager
    def shared(self) -> Iterator[ThreadPoolExecutor]:
        """The threads. When the last call leaves they end, each after its work."""
        with self._lock:
            self._calls += 1
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._most, thread_name_prefix="spladerunner")
            executor = self._executor
        try:
            yield executor
        finally:
            with self._lock:
                if executor is self._executor:  # not in a child of fork
                    self._calls -= 1
                    if not self._calls:
                        self._executor = None
                        executor.shutdown(wait=False)


async def run_admitted(
    executor: ThreadPoolExecutor, admission: Admission, size: int, function: Callable[[], Result]
) -> Result:
    """Runs a function in a thread once there is a place for its size, and holds the place while it runs.

    When cancelled, a function that waits is withdrawn; one that runs ends in its thread and then frees its place.
    """
    loop = asyncio.get_running_loop()
    turn = loop.create_future()

    def take_turn() -> None:
        if not turn.done():
            turn.set_result(None)

    def granted() -> None:
        try:
            loop.call_soon_threadsafe(take_turn)
        except RuntimeError:  # the loop was closed while this text waited
            ticket.ended = True

    ticket = Ticket(size, granted)
    try:
        admission.arrive(ticket)
        if not ticket.notified:
            await turn
        work = executor.submit(function)
    except GeneratorExit:  # from the garbage collector, maybe inside the admission's lock
        ticket.ended = True
        raise
    except BaseException:
        admission.leave(ticket)
        raise
    work.add_done_callback(lambda _: admission.leave(ticket))  # also if it was cancelled before it began
    return await asyncio.wrap_future(work)


async def map_in_order(
    function: Callable[[Given], Awaitable[Result]], items: Iterable[Given], *, at_once: int
) -> list[Result]:
    """function(item) of each item, in order, of which at most `at_once` are awaited at a time.

    After an error the items that are not done are cancelled.
    """
    results: dict[int, Result] = {}
    numbered = enumerate(items)

    async def work() -> None:
        for number, item in numbered:
            results[number] = await function(item)

    tasks = [asyncio.ensure_future(work()) for _ in range(at_once)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return [results[number] for number in sorted(results)]
