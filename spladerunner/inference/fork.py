"""Keeps forks apart from calls into onnxruntime and tokenizers, so that a child inherits no native lock that is held.

A child of fork has only the thread that forked; a lock that another thread held at that moment is never released in it
(POSIX.1-2017, fork). Every thread makes native calls under a lock of its own, and a fork first takes all those locks.
Code under the lock must not wait for a Python lock, such as logging's: the forking thread may hold that lock already.
Python locks are renewed in the child instead.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class HasLocks(Protocol):
    """An object with Python locks."""

    def _renew_locks(self) -> None: ...


class _Own(threading.local):
    lock: threading.RLock | None = None


_own = _Own()
_registering = threading.RLock()
_locks: weakref.WeakSet[threading.RLock] = weakref.WeakSet()
_taken: list[threading.RLock] = []
_to_destroy: list[object] = []
_with_locks: weakref.WeakValueDictionary[int, HasLocks] = weakref.WeakValueDictionary()


def native_lock() -> threading.RLock:
    """The lock under which this thread calls native code. A signal cannot come between taking it and the with block."""
    if _own.lock is None:
        lock = threading.RLock()
        with _registering:
            _locks.add(lock)
        _own.lock = lock
    return _own.lock


def destroy(native: list[object]) -> None:
    """Empties a list of native objects that have no other references; during a fork, they are destroyed after it.

    For finalizers, which must not wait, as the garbage collector may run them anywhere.
    """
    if _registering.acquire(blocking=False):  # a fork holds it from beginning to end
        try:
            native.clear()
        finally:
            _registering.release()
    else:
        _to_destroy.extend(native)


def renew_in_child(owner: HasLocks) -> None:
    """Has the locks of an object renewed in every child of fork, as long as the object exists."""
    _with_locks[id(owner)] = owner


def _before_fork() -> None:
    _registering.acquire()
    for lock in list(_locks):
        lock.acquire()  # this thread's own lock may be taken again: a signal handler may fork during a native call
        _taken.append(lock)


def _release() -> None:
    while _taken:
        _taken.pop().release()
    _to_destroy.clear()
    _registering.release()


def _after_fork_in_child() -> None:
    global _registering
    _registering = threading.RLock()
    _registering.acquire()
    _release()
    for owner in list(_with_locks.values()):
        owner._renew_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_release, after_in_child=_after_fork_in_child)
