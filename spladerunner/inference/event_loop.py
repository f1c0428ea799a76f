"""Runs texts for callers on event loops.

A caller waits for its turn as a coroutine; only a text that is tokenized or runs takes a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar, cast

from spladerunner.inference.admission import Admission, Turn

Given = TypeVar("Given")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Step(Generic[Result]):
    """A function that holds a place of this size while it runs. It returns its result, or the step that follows."""

    admission: Admission
    size: int
    function: Callable[[], Result | Step[Result]]


async def run_admitted(step: Step[Result]) -> Result:
    """Runs a step and those that follow it, in worker threads, and returns the result of the last.

    When cancelled, a step that waits is withdrawn; one that runs ends in its thread and then frees its place.
    """
    loop = asyncio.get_running_loop()
    has_ended = loop.create_future()

    def wake() -> None:
        if not has_ended.done():
            has_ended.set_result(None)

    def ended() -> None:
        with suppress(RuntimeError):  # the loop was closed while this text waited
            loop.call_soon_threadsafe(wake)

    steps = _Steps[Result](ended)
    try:
        steps.begin(step)
        await has_ended
        return steps.result()
    except GeneratorExit:  # the garbage collector may raise it while this thread holds the admission's lock
        steps.give_up(Turn.abandon)
        raise
    except BaseException:
        try:
            steps.give_up(Turn.withdraw)
        except BaseException:  # interrupted before it had an effect
            steps.give_up(Turn.withdraw)
            raise
        raise


class _Steps(Generic[Result]):
    """The steps of one text. The thread that ends a step begins the next, so that no event loop wakes between them.

    ended: called, from any thread, after the last step.
    """

    def __init__(self, ended: Callable[[], object]) -> None:
        self._ended = ended
        self._given_up = False
        self._next: Step[Result] | None = None
        self._turn: Turn[Result | None] | None = None

    def begin(self, step: Step[Result]) -> None:
        turn = self._turn = Turn(step.admission, step.size, partial(self._run, step), self._end)
        step.admission.arrive(turn.ticket)
        if self._given_up:  # maybe just now, by a thread that has not seen this turn
            turn.withdraw()

    def result(self) -> Result:
        """Returns the result of the last step, or raises its error."""
        assert self._turn is not None
        return cast(Result, self._turn.result())

    def give_up(self, leave: Callable[[Turn[Result | None]], object]) -> None:
        """Lets no other step begin. leave: gives up the turn of this one."""
        self._given_up = True
        if self._turn:
            leave(self._turn)

    def _run(self, step: Step[Result]) -> Result | None:
        result = step.function()
        if not isinstance(result, Step):
            return result
        self._next = result
        return None

    def _end(self) -> None:
        step, self._next = self._next, None
        if step is None:
            self._ended()
        else:
            self.begin(step)


async def map_in_order(
    function: Callable[[Given], Awaitable[Result]], items: Iterable[Given], *, at_once: int
) -> list[Result]:
    """function(item) of each item, in order, of which at most `at_once` are awaited at a time.

    After an error the items that are not done are cancelled.
    """
    if at_once == 1:
        return [await function(item) for item in items]
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
