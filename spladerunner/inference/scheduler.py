"""Runs several texts at a time, and returns their vectors in order.

Each text runs alone in the graph, unpadded, on one thread. So a text's vector does not depend on other texts: a
quantized graph scales its activations over everything in a run. On CPUs this is also the fastest schedule
(benchmarks/lab/README.md).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Protocol, TypeVar

from spladerunner.inference.worker_threads import Pool, Task


class Sized(Protocol):
    """A text, or a batch of texts."""

    @property
    def tokens(self) -> int:
        """The number of tokens that a run of it takes."""


_Sized = TypeVar("_Sized", bound=Sized)
_Result = TypeVar("_Result")


def run_in_order(
    texts: Iterable[_Sized],
    run: Callable[[_Sized], _Result],
    *,
    threads: int,
    tokens_in_flight: int,
) -> Iterator[_Result]:
    """Yields run(text) for each text, in the order of the texts, from up to `threads` threads.

    At most tokens_in_flight tokens are running or waiting for their turn to be yielded; a text of more runs alone.
    Texts are taken from the iterable only within that limit. Closing the iterator ends the
    threads when the texts that run are done.
    Raises RuntimeError if it is continued in a child of fork, which does not have the threads.
    """
    if threads == 1:
        yield from map(run, texts)
        return
    process = os.getpid()
    in_flight: deque[tuple[int, Task[_Result]]] = deque()

    def check_process() -> None:
        if os.getpid() != process:
            raise RuntimeError("a stream of vectors cannot be continued in a forked process: begin another one there")

    def take() -> _Result:
        check_process()
        return in_flight.popleft()[1].result()

    pool = Pool(threads)
    try:
        source = iter(texts)
        while True:
            while in_flight and in_flight[0][1].done:
                yield take()
            try:
                text = next(source, None)
            except Exception:
                while in_flight:  # the texts before the error still get their vectors
                    yield take()
                raise
            if text is None:
                break
            while in_flight and sum(size for size, _ in in_flight) + text.tokens > tokens_in_flight:
                yield take()
            task = Task(partial(run, text))
            in_flight.append((text.tokens, task))
            pool.submit(task)
        while in_flight:
            yield take()
        check_process()
        pool.end(wait=True)
    except GeneratorExit:  # the garbage collector may raise it anywhere: waiting for threads could deadlock
        _end(pool, in_flight, wait=False)
        raise
    except BaseException:
        _end(pool, in_flight, wait=os.getpid() == process)
        raise


def _end(pool: Pool, in_flight: Iterable[tuple[int, Task[_Result]]], *, wait: bool) -> None:
    for _, task in in_flight:
        task.cancel()
    pool.end(wait=wait)
