"""Threads that run work for callers.

An exception of a signal handler, such as KeyboardInterrupt, may come between any two steps of Python code in the main
thread, also in those of threading.Condition and Thread.start, and then leaves their locks held: threads hang, or
another error hides the interrupt. So callers meet the threads in queue.SimpleQueue alone, whose methods are one step,
and threads are started by a thread.
"""

from __future__ import annotations

import _thread
import threading
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from spladerunner.inference.fork import renew_in_child

Result = TypeVar("Result")

Work = Callable[[], object]
"""Something to run. It raises nothing."""


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
        self.done = True
        self._ended.put(None)

    def cancel(self) -> None:
        """Keeps the function from being run, if it has not begun."""
        self._function = None

    def result(self) -> Result:
        """Waits for the function, and returns what it returned or raises what it raised. Called once."""
        self._ended.get()
        if self._error is None:
            return self._result
        error, self._error = self._error, None
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame


class Pool:
    """Up to `most` threads. They end after the work given, when nothing refers to the pool or `end` is called."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._has_ended = False
        self._starting = threading.Lock()

    def submit(self, work: Work) -> None:
        """Runs work in a thread. Raises RuntimeError if the system has no more threads; work may run all the same."""
        self._work.put(work)
        if len(self._threads) < self._most:
            _thread.start_new_thread(self._start_thread, ())

    def _start_thread(self) -> None:
        with self._starting:
            if self._has_ended or len(self._threads) == self._most or self._work.empty():
                return
            thread = threading.Thread(target=_serve, args=(self._work,), name="spladerunner", daemon=False)
            try:
                thread.start()
            except RuntimeError:  # no more threads, or the interpreter ends
                pass
            else:
                self._threads.append(thread)
                return
        try:
            while work := self._work.get_nowait():
                work()
        except Empty:
            pass

    def end(self, *, wait: bool) -> None:
        """Ends the threads. Work that none has taken may not run. wait: returns when they have ended."""
        self._has_ended = True
        for _ in range(self._most):
            self._work.put(None)
        if wait:
            with self._starting:
                threads = [*self._threads]
            for thread in threads:
                thread.join()

    def __del__(self) -> None:
        self.end(wait=False)


def _serve(queue: SimpleQueue[Work | None]) -> None:
    while work := queue.get():
        work()
        del work  # what it refers to may be large


class WorkerThreads:
    """A pool that all callers share. It exists as long as one of them holds it.

    most: the most threads. It must be as many as admissions grant places, since work that has a place must not wait.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._renew_locks()
        renew_in_child(self)

    def _renew_locks(self) -> None:
        """Forgets the threads: a child of fork does not have them."""
        self._lock = threading.RLock()  # the garbage collector may end a pool anywhere
        self._shared: weakref.ref[Pool] | None = None

    def pool(self) -> Pool:
        """The threads, for as long as the caller refers to them."""
        with self._lock:
            pool = None if self._shared is None else self._shared()
            if pool is None:
                pool = Pool(self._most)
                self._shared = weakref.ref(pool)
            return pool
