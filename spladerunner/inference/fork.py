"""Keeps forks apart from calls into onnxruntime and tokenizers, so that a child inherits no lock that is held.

A child of fork has only the thread that forked; a lock that another thread held at that moment is never released in it
(POSIX.1-2017, fork). A fork therefore waits until no other thread is inside NATIVE_CALL, and lets none in meanwhile.
Inside it, nothing may wait for a lock of Python code, as that of logging: a fork may hold such a lock while it waits.
Locks of Python code are renewed in the child instead.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class NativeCalls:
    """A context for calls into native code that takes locks. Threads enter it at the same time, and may nest it."""

    def __init__(self) -> None:
        self._thread = threading.local()
        self._renew()

    def _renew(self) -> None:
        self._condition = threading.Condition()
        self._threads_inside = 1 if self._depth else 0
        self._forking = False
        self._to_destroy: list[object] = []

    @property
    def _depth(self) -> int:
        depth: int = getattr(self._thread, "depth", 0)
        return depth

    def __enter__(self) -> None:
        if not self._depth:
            with self._condition:
                while self._forking:
                    self._condition.wait()
                self._threads_inside += 1
        self._thread.depth = self._depth + 1

    def __exit__(self, *_: object) -> None:
        self._thread.depth = self._depth - 1
        if not self._depth:
            with self._condition:
                self._threads_inside -= 1
                if not self._forking:
                    self._to_destroy.clear()
                self._condition.notify_all()

    def destroy(self, native: list[object]) -> None:
        """Empties a list of native objects, of which it holds the only references, but not during a fork.

        For finalizers, which must not wait, as the garbage collector may run them anywhere: what cannot be destroyed
        at once is destroyed when the next call ends.
        """
        if self._condition.acquire(blocking=False):
            try:
                if not self._forking:
                    native.clear()
            finally:
                self._condition.release()
        self._to_destroy += native

    def before_fork(self) -> None:
        """Waits until other threads are outside; a signal handler may fork inside a call of its own thread."""
        own = 1 if self._depth else 0
        with self._condition:
            while self._forking:
                self._condition.wait()
            self._forking = True
            while self._threads_inside > own:
                self._condition.wait()

    def after_fork_in_parent(self) -> None:
        """Lets threads in again."""
        with self._condition:
            self._forking = False
            self._condition.notify_all()

    def after_fork_in_child(self) -> None:
        """Forgets the threads that the child does not have."""
        self._renew()


class HasLocks(Protocol):
    """An object with locks of Python code."""

    def _renew_locks(self) -> None:
        """Replaces the locks, as other threads may hold them that the child does not have."""


_with_locks: weakref.WeakSet[HasLocks] = weakref.WeakSet()


def renew_in_child(owner: HasLocks) -> None:
    """Has the locks of an object renewed in every child of fork, as long as the object exists."""
    _with_locks.add(owner)


def _renew_all() -> None:
    for owner in _with_locks:
        owner._renew_locks()


NATIVE_CALL = NativeCalls()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=NATIVE_CALL.before_fork,
        after_in_parent=NATIVE_CALL.after_fork_in_parent,
        after_in_child=NATIVE_CALL.after_fork_in_child,
    )
    os.register_at_fork(after_in_child=_renew_all)
