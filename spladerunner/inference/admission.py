"""Admission: bounds the texts that run at once in one Expander, and orders those that wait.

A text waits until fewer than `threads` texts run and its tokens fit beside theirs. The waiting text with the lowest
key runs next: the tokens admitted before it arrived, plus OVERTAKING times its own. So a short query passes long
documents that wait, and a text of n tokens is passed by at most OVERTAKING × n tokens of later arrivals (virtual time,
as in weighted fair queueing: Demers, Keshav and Shenker, SIGCOMM 1989).
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from spladerunner.inference.fork import renew_in_child

OVERTAKING = 8


class Ticket:
    """The place of a text that waits or runs.

    granted: called when the text may run, in rare cases more than once.
    ended: set, without a lock, when the text no longer needs its place.
    """

    __slots__ = ("ended", "granted", "key", "notified", "tokens")

    def __init__(self, tokens: int, granted: Callable[[], object]) -> None:
        self.tokens = tokens
        self.granted = granted
        self.key = (0, 0)
        self.notified = self.ended = False

    def __lt__(self, other: Ticket) -> bool:
        return self.key < other.key


class Admission:
    """Shared by all callers of an Expander, from any thread.

    threads: the most texts that run at once. tokens: the most tokens that run at once; a longer text runs alone.
    A KeyboardInterrupt at any moment leaves no place taken.
    """

    def __init__(self, threads: int, tokens: int) -> None:
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

    def arrive(self, ticket: Ticket) -> None:
        """Queues a text. Its `granted` is called, from any thread, when it may run."""
        with self._lock:
            self._arrivals += 1
            ticket.key = (self._admitted_tokens + OVERTAKING * ticket.tokens, self._arrivals)
            heapq.heappush(self._waiting, ticket)
            self._grant()

    def leave(self, ticket: Ticket) -> None:
        """Ends a text: frees the place of one that runs, and withdraws one that waits."""
        with self._lock:
            ticket.ended = True
            self._running.discard(ticket)
            self._grant()

    def runs(self, ticket: Ticket) -> bool:
        """True while a text may run."""
        return ticket in self._running

    @contextmanager
    def admit(self, tokens: int) -> Iterator[None]:
        """Blocks until a text of this many tokens may run, and holds its place while the block runs."""
        turn = threading.Event()
        ticket = Ticket(tokens, turn.set)
        try:
            self.arrive(ticket)
            if not ticket.notified:
                turn.wait()
            yield
        finally:
            try:
                self.leave(ticket)
            except BaseException:  # interrupted before it had an effect
                self.leave(ticket)
                raise

    def _grant(self) -> None:
        """Lets texts run as far as the bounds allow. Every state in which an interrupt may leave it is mended here."""
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
                self._notify(ticket)
            heapq.heappop(self._waiting)
            if ticket.ended:
                self._running.discard(ticket)

    def _notify(self, ticket: Ticket) -> None:
        ticket.granted()
        ticket.notified = True

    def _fits(self, ticket: Ticket) -> bool:
        if not self._running:
            return True
        tokens = sum(each.tokens for each in self._running)
        return len(self._running) < self._threads and tokens + ticket.tokens <= self._tokens
