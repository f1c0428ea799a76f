"""Threads that run work for callers.

KeyboardInterrupt, and any exception of a signal handler, can interrupt the main thread between two bytecodes. Inside
threading.Condition or Thread.start it leaves a lock held, and threads hang. Callers therefore use only SimpleQueue,
whose methods are atomic, and a helper thread starts the workers.
"""

from __future__ import annotations

import _thread
import atexit
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import ClassVar, Generic, TypeVar

from spladerunner.inference.fork import renew_in_child

Result = TypeVar("Result")

Work = Callable[[], object]
"""Something to run. It raises nothing."""

WorkQueue = SimpleQueue["Work | weakref.ref[Pool] | None"]
"""Work, and the end of its threads: None, or a reference to a pool that does not exist any more."""


class Task(Generic[Result]):
    """A function whose result, or error, another thread waits for."""

    def __init__(self, function: Callable[[], Result]) -> None:
        self.done = False
        self._function: Callable[[], Result] | None = function
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._result: Result
        self._error: BaseException | None = None

    def __call__(self) -> None:
        """Runs the function, unless the task was cancelled."""
        if function := self._function:
            try:
                self._result = function()
            except BaseException as error:
                self._error = error
        self._function = function = None  # what they refer to may be large
        self.done = True
        self._ended.put(None)

    def cancel(self) -> None:
        """Keeps the function from being run, if it has not begun."""
        self._function = None

    def result(self) -> Result:
        """Waits for the function, and returns what it returned or raises what it raised. Called once."""
        self._ended.get()
        if self._error is None:
            result = self._result
            del self._result
            return result
        error, self._error = self._error, None
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame


class Pool:
    """Up to `most` threads. They end when `end` is called or nothing refers to the pool, after the submitted work."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._work: WorkQueue = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()
        self._has_ended = False
        self._end_with_pool = weakref.ref(self, self._work.put)  # no Python code that could be interrupted

    def submit(self, work: Work) -> None:
        """Runs work in a thread.

        Raises RuntimeError if the system has no more threads; another thread may still run the work.
        """
        self._work.put(work)
        if len(self._threads) < self._most:
            _thread.start_new_thread(self._start_thread, ())

    def _start_thread(self) -> None:
        with self._starting:
            if self._has_ended or len(self._threads) == self._most or self._work.empty():
                return
            thread = threading.Thread(target=_serve, args=(self._work,), name="spladerunner", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads, or the interpreter ends
                pass
            else:
                self._threads.append(thread)
                return
        _run_all(self._work)

    def end(self, *, wait: bool) -> None:
        """Ends the threads. Work that no thread has taken may never run. wait: returns when they have ended."""
        self._has_ended = True
        self._work.put(None)
        if wait:
            with self._starting:
                threads = [*self._threads]
            for thread in threads:
                thread.join()


def _serve(queue: WorkQueue) -> None:
    _queues[threading.current_thread()] = queue
    try:
        while (work := queue.get()) is not None and not isinstance(work, weakref.ref):
            work()
            del work  # what it refers to may be large
        queue.put(work)  # for the other threads
    finally:
        del _queues[threading.current_thread()]


def _run_all(queue: WorkQueue) -> None:
    """Runs the work that waits, in this thread."""
    with suppress(Empty):
        while (work := queue.get_nowait()) is not None and not isinstance(work, weakref.ref):
            work()
        queue.put(work)


_queues: dict[threading.Thread, WorkQueue] = {}
"""The queue of each thread that runs."""


def _end_all() -> None:
    """Ends all threads at the exit of the interpreter, each after the work that it runs.

    Callers in threads that are no daemons are done by then. A pool may still be referred to, such as by a suspended
    stream, so that its threads would not end by themselves.
    """
    WorkerThreads.exiting = True
    for queue in [*_queues.values()]:
        with suppress(Empty):  # its threads take from it too
            while True:
                queue.get_nowait()
        queue.put(None)
    for thread in [*_queues]:
        thread.join()


atexit.register(_end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_queues.clear)


class WorkerThreads:
    """A pool that all callers share. It exists as long as one of them holds it.

    most: the most threads, at least the number of places that admissions grant: work with a place must not wait.
    exiting: True when the interpreter ends, and threads take no more work.
    """

    exiting: ClassVar[bool] = False

    def __init__(self, most: int) -> None:
        self._most = most
        self._renew_locks()
        renew_in_child(self)

    def _renew_locks(self) -> None:
        """Forgets the threads: a child of fork does not have them."""
        self._lock = threading.RLock()  # a finalizer may call pool() inside the block
        self._shared: weakref.ref[Pool] | None = None

    def pool(self) -> Pool:
        """Returns the shared pool. It ends when no caller refers to it."""
        with self._lock:
            pool = None if self._shared is None else self._shared()
            if pool is None:
                pool = Pool(self._most)
                self._shared = weakref.ref(pool, pool._work.put)  # also if the garbage collector ends it
            return pool
