"""Admission: bounds the texts that run at once in one Expander, and orders those that wait.

A text waits until fewer than `threads` texts run and its tokens fit beside theirs. The waiting text with the lowest
key runs next: the tokens admitted before it arrived, plus OVERTAKING times its own. So a short query passes long
documents that wait, and a text of n tokens is passed by at most OVERTAKING × n tokens of later arrivals (virtual time,
as in weighted fair queueing: Demers, Keshav and Shenker, SIGCOMM 1989).

A text with a free place runs in the thread that asks for it. Texts that wait run in worker threads: a worker that ends
a text takes the next one itself, so no thread has to wake between them.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from spladerunner.inference.fork import renew_in_child
from spladerunner.inference.worker_threads import Pool, Task, WorkerThreads

OVERTAKING = 8

ABANDONED = object()
"""The owner of a ticket whose coroutine was closed. The worker that meets the ticket ends it."""

Result = TypeVar("Result")


class Ticket:
    """The place of a text that waits or runs.

    granted: called when the text may run, in rare cases more than once.
    ended: True when the text needs no place; may be set without the lock.
    """

    __slots__ = ("_owner", "ended", "granted", "key", "notified", "tokens")

    def __init__(self, tokens: int, granted: Callable[[], object]) -> None:
        self.tokens = tokens
        self.granted = granted
        self.key = (0, 0)
        self.notified = self.ended = False
        self._owner = dict[str, object]()

    def __lt__(self, other: Ticket) -> bool:
        return self.key < other.key

    def claim(self, owner: object) -> bool:
        """Returns True to the first owner that claims the ticket, also when it claims again. Takes no lock.

        Only that owner ends the ticket.
        """
        return self._owner.setdefault("owner", owner) is owner


class Turn(Generic[Result]):
    """A function that waits for its place and then runs in a worker thread.

    ended: called, from any thread, when it has run, or when no worker can take it.
    keeps_place: True if the place stays taken when no worker can take it.
    """

    def __init__(
        self,
        admission: Admission,
        tokens: int,
        function: Callable[[], Result],
        ended: Callable[[], object],
        *,
        keeps_place: bool = False,
    ) -> None:
        self.ticket = Ticket(tokens, self._hand_over)
        self._admission = admission
        self._task = Task(function)
        self._ended = ended
        self._keeps_place = keeps_place
        self._pool: Pool | None = None
        self._refusal: RuntimeError | None = None

    @property
    def ran(self) -> bool:
        """True when a worker has run the function."""
        return self._task.done

    def result(self) -> Result:
        """Returns what the function returned. Raises what it raised, or RuntimeError if no worker could take it."""
        if not self.ran and self._refusal is not None:
            raise self._refusal
        return self._task.result()

    def withdraw(self) -> None:
        """Gives the place up, unless a worker runs the function. May be called again, such as after an interrupt."""
        if self.ticket.claim(self):
            self._admission.leave(self.ticket)

    def abandon(self) -> None:
        """Withdraws without a lock."""
        self.ticket.ended |= self.ticket.claim(ABANDONED)

    def _hand_over(self) -> None:
        if _own.granted is None or self._admission.workers.exiting:
            self._submit()
        else:
            _own.granted.append(self)

    def _submit(self) -> None:
        """Gives the turn to a worker, or ends it. May be called again, such as after an interrupt."""
        if self._refusal is None:
            self._pool = self._admission.workers.pool()
            try:
                self._pool.submit(partial(_run_turns, [self]))
                return
            except RuntimeError as error:
                self._refusal = error.with_traceback(None)  # whose frames refer to the pool
        if self.ticket.claim(self):  # otherwise a worker runs the function
            self._pool = None
            self.ticket.ended |= not self._keeps_place
            self._ended()

    def _run(self) -> list[Turn[Any]]:
        """Runs the function, unless it was withdrawn. Returns the turns that are granted by its end."""
        granted: list[Turn[Any]] = []
        if self.ticket.claim(object()):
            self._task()
            _own.granted = granted
            try:
                self._admission.leave(self.ticket)
            finally:
                self._ended()
                _own.granted = None
        elif self.ticket.claim(ABANDONED):
            self._admission.leave(self.ticket)
        self._pool = None
        return granted


def _run_turns(turns: list[Turn[Any]]) -> None:
    """Runs the last turn in this thread and submits the others. Repeats this with the turns that its end grants."""
    pool = turns[-1]._pool  # exists as long as its thread runs turns
    while turns:
        turn = turns.pop()
        for other in turns:
            other._submit()
            if other.ticket.ended:
                other._admission.leave(other.ticket)
        turns[:] = turn._run()
    del pool


class _Own(threading.local):
    """granted: the turns that a worker thread has granted and not handed over; None in other threads."""

    granted: list[Turn[Any]] | None = None


_own = _Own()


class Admission:
    """Shared by all callers of an Expander, from any thread.

    threads: the most texts that run at once. tokens: the most tokens that run at once; a longer text runs alone.
    workers: run texts that waited. A KeyboardInterrupt at any moment leaves no place taken.
    """

    def __init__(self, threads: int, tokens: int, workers: WorkerThreads) -> None:
        self.workers = workers
        self._threads = threads
        self._tokens = tokens
        self._renew_locks()
        renew_in_child(self)

    def _renew_locks(self) -> None:
        """Forgets every text: in a child of fork, the threads that ran or waited are gone."""
        self._lock = threading.Lock()
        self._waiting: list[Ticket] = []
        self._running: set[Ticket] = set()
        self._admitted_tokens = self._arrivals = 0

    def run(self, tokens: int, function: Callable[[], Result]) -> Result:
        """Runs a function while it holds a place for this many tokens, and returns its result.

        Runs it in this thread if a place is free or no worker can be started. An interrupt withdraws a function that
        waits. A function that a worker runs goes on, and its place is freed when it ends.
        """
        ended: SimpleQueue[None] = SimpleQueue()
        turn = Turn(self, tokens, function, partial(ended.put, None), keeps_place=True)
        try:
            if self.arrive(turn.ticket, here=True):
                return function()
            ended.get()
            while not (turn.ran or turn.ticket.claim(turn)):  # a worker claimed it despite an error
                ended.get()
            return turn.result() if turn.ran else function()
        finally:
            try:
                turn.withdraw()
            except BaseException:  # interrupted before it had an effect
                turn.withdraw()
                raise

    def arrive(self, ticket: Ticket, *, here: bool = False) -> bool:
        """Queues a text. Its `granted` is called, from any thread, when it may run.

        here: the calling thread runs it if it may run at once: then returns True, and `granted` is not called.
        """
        with self._lock:
            self._arrivals += 1
            ticket.key = (self._admitted_tokens + OVERTAKING * ticket.tokens, self._arrivals)
            heapq.heappush(self._waiting, ticket)
            self._grant(ticket if here else None)
            return here and ticket.notified

    def leave(self, ticket: Ticket) -> None:
        """Ends a text: frees the place of one that runs, and withdraws one that waits."""
        with self._lock:
            ticket.ended = True
            self._running.discard(ticket)
            self._grant()

    def runs(self, ticket: Ticket) -> bool:
        """True while a text may run."""
        return ticket in self._running

    def _grant(self, here: Ticket | None = None) -> None:
        """Lets texts run as far as the bounds allow. Repairs every state that an interrupt can leave.

        here: a ticket whose `granted` is not called.
        """
        for ticket in list(self._running):
            if not ticket.notified:
                self._notify(ticket)
            if ticket.ended:
                self._running.discard(ticket)
        while self._waiting:
            ticket = self._waiting[0]
            if not ticket.ended and ticket not in self._running:
                if not self._fits(ticket):
                    return
                self._running.add(ticket)
                self._admitted_tokens += ticket.tokens
                self._notify(ticket, here)
            heapq.heappop(self._waiting)
            if ticket.ended:
                self._running.discard(ticket)

    def _notify(self, ticket: Ticket, here: Ticket | None = None) -> None:
        if ticket is not here:
            ticket.granted()
        ticket.notified = True

    def _fits(self, ticket: Ticket) -> bool:
        if not self._running:
            return True
        tokens = sum(each.tokens for each in self._running)
        return len(self._running) < self._threads and tokens + ticket.tokens <= self._tokens
