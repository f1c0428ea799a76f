"""Runs texts for callers on event loops.

A caller waits for its turn as a coroutine; only a text that is tokenized or runs takes a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from spladerunner.inference.admission import Admission, Turn

Given = TypeVar("Given")
Result = TypeVar("Result")


async def run_admitted(admission: Admission, size: int, function: Callable[[], Result]) -> Result:
    """Runs a function in a worker thread once there is a place for its size, which it holds while it runs.

    When cancelled, a function that waits is withdrawn; one that runs ends in its thread and then frees its place.
    """
    loop = asyncio.get_running_loop()
    has_ended = loop.create_future()

    def wake() -> None:
        if not has_ended.done():
            has_ended.set_result(None)

    def ended() -> None:
        with suppress(RuntimeError):  # the loop was closed while this text waited
            loop.call_soon_threadsafe(wake)

    turn = Turn(admission, size, function, ended)
    try:
        admission.arrive(turn.ticket)
        await has_ended
        return turn.result()
    except GeneratorExit:  # the garbage collector may raise it while this thread holds the admission's lock
        turn.abandon()
        raise
    except BaseException:
        try:
            turn.withdraw()
        except BaseException:  # interrupted before it had an effect
            turn.withdraw()
            raise
        raise


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
