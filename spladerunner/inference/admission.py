"""Admission: bounds the texts and tokens that run at once in one Expander, and orders those that wait.

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
    """A text's place: waiting, then running. granted: called once, when the text may run."""

    __slots__ = ("granted", "key", "running", "tokens", "withdrawn")

    def __init__(self, tokens: int, key: tuple[int, int], granted: Callable[[], object]) -> None:
        self.tokens = tokens
        self.key = key
        self.granted = granted
        self.running = False
        self.withdrawn = False

    def __lt__(self, other: Ticket) -> bool:
        return self.key < other.key


class Admission:
    """Shared by all callers of an Expander, from any thread.

    threads: the most texts that run at once. tokens: the most tokens that run at once; a longer text runs alone.
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
        self._running_texts = self._running_tokens = 0
        self._admitted_tokens = self._arrivals = 0

    def arrive(self, tokens: int, granted: Callable[[], object]) -> Ticket:
        """Queues a text of this many tokens. `granted` is called, from any thread, when it may run.

        A RuntimeError from `granted` withdraws the text, as that of an event loop that is closed.
        """
        with self._lock:
            self._arrivals += 1
            ticket = Ticket(tokens, (self._admitted_tokens + OVERTAKING * tokens, self._arrivals), granted)
            heapq.heappush(self._waiting, ticket)
            self._grant()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Ends a text: the place of one that runs is free, and one that waits is withdrawn."""
        with self._lock:
            if ticket.running:
                ticket.running = False
                self._running_texts -= 1
                self._running_tokens -= ticket.tokens
            ticket.withdrawn = True
            self._grant()

    @contextmanager
    def admit(self, tokens: int) -> Iterator[None]:
        """Blocks until a text of this many tokens may run, and holds its place while the block runs."""
        turn = threading.Lock()
        turn.acquire()
        ticket = self.arrive(tokens, turn.release)
        try:
            turn.acquire()
            yield
        finally:
            self.leave(ticket)

    def _grant(self) -> None:
        while self._waiting and (self._waiting[0].withdrawn or self._fits(self._waiting[0])):
            ticket = heapq.heappop(self._waiting)
            if ticket.withdrawn:
                continue
            try:
                ticket.granted()
            except RuntimeError:
                ticket.withdrawn = True
                continue
            ticket.running = True
            self._running_texts += 1
            self._running_tokens += ticket.tokens
            self._admitted_tokens += ticket.tokens

    def _fits(self, ticket: Ticket) -> bool:
        if not self._running_texts:
            return True
        return self._running_texts < self._threads and self._running_tokens + ticket.tokens <= self._tokens
