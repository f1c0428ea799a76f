"""Attacks by load: callers of all kinds that share an Expander, interrupts, and forks."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest

from spladerunner import Expander, SparseVector
from spladerunner.inference.session import Session
from spladerunner.inference.tokenizer import TokenizedText
from tests.attack.tries import Tried
from tests.conftest import ROOT
from tests.small_model import write_bundle
from tests.test_event_loop import is_idle
from tests.test_fork import FORKS
from tests.test_worker_threads import all_end

TEXTS = ["the cat sat on the mat", "", "naïve dogs", "money!", "the " * 60, "数 😀", "river bank " * 5, "x"]


def callers(chosen: Random) -> Iterator[Tried]:
    """Threads, event loops, streams given up half-way and calls cancelled: each gets its vectors, within the bounds."""
    with tempfile.TemporaryDirectory() as made, pytest.MonkeyPatch.context() as patch:
        bundle = write_bundle(Path(made) / "bundle")
        alone = {text: Expander(bundle).encode(text)[0] for text in TEXTS}
        watch = Watch()
        patch.setattr(Session, "run", watch.around(Session.run))
        while True:
            threads, tokens = chosen.randrange(1, 5), chosen.choice((1, 40, 200))
            expander = Expander(bundle, threads=threads, tokens_in_flight=tokens)
            watch.most = watch.most_tokens = 0
            seeds = [chosen.getrandbits(32) for _ in range(chosen.randrange(1, 40))]
            with ThreadPoolExecutor(len(seeds)) as pool:
                calls = [pool.submit(call, Random(seed), expander, alone) for seed in seeds]
            wrong = [found for each in calls if (found := each.result())]
            if watch.most > threads or watch.most_tokens > max(tokens, 32):
                wrong.append(f"{watch.most} texts of {watch.most_tokens} tokens ran, of {threads} and {tokens}")
            if not all_end():
                wrong.append("a thread was left")
            if not is_idle(expander._tokenizing, expander._running):
                wrong.append("a place was left taken")
            yield Tried(len(seeds), f"{len(seeds)} callers, threads={threads}: {wrong[0]}" if wrong else None)


class Watch:
    """The most texts and tokens that ran at the same time."""

    def __init__(self) -> None:
        self.lock, self.running = threading.Lock(), list[int]()
        self.most = self.most_tokens = 0

    def around(self, run: Any) -> Any:
        def watched(session: Session, text: TokenizedText) -> Any:
            with self.lock:
                self.running.append(text.ids.size)
                self.most = max(self.most, len(self.running))
                self.most_tokens = max(self.most_tokens, sum(self.running))
            try:
                return run(session, text)
            finally:
                with self.lock:
                    self.running.remove(text.ids.size)

        return watched


def call(chosen: Random, expander: Expander, alone: dict[str, SparseVector]) -> str | None:
    """One caller; says what was wrong."""
    texts = chosen.choices(TEXTS, k=chosen.randrange(12))
    expected = [alone[text] for text in texts]
    kind = chosen.choice(("list", "stream", "given up", "awaited", "cancelled"))
    if kind == "list":
        found = expander.encode(texts)
    elif kind == "stream":
        found = list(expander.stream(iter(texts)))
    elif kind == "given up":
        stream = expander.stream(iter(texts))
        found = [vector for vector, _ in zip(stream, range(chosen.randrange(4)), strict=False)]
        expected = expected[: len(found)]
        del stream
    elif kind == "awaited":
        found = asyncio.run(expander.aencode(texts))
    else:
        try:
            found = asyncio.run(asyncio.wait_for(expander.aencode(texts), chosen.random() / 50))
        except asyncio.TimeoutError:
            return None
    return None if found == expected else f"{kind}: other vectors"


INTERRUPTS = """
import random, signal, sys
from spladerunner import Expander
from tests.test_event_loop import is_idle
from tests.test_worker_threads import all_end
chosen = random.Random(int(sys.argv[2]))
expander = Expander(sys.argv[1], threads=2)
expected = expander.encode(["the cat sat"] * 8)
def interrupt(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
for _ in range(50):
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-6 + chosen.random() / 100)
        try:
            expander.encode(["the cat sat"] * 8)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        pass
assert all_end() and is_idle(expander._tokenizing, expander._running)
assert expander.encode(["the cat sat"] * 8) == expected
print("held")
"""


def interrupts(chosen: Random) -> Iterator[Tried]:
    """A signal's exception at a random moment of a call leaves no thread, takes no place, and spoils no later call."""
    yield from in_processes(INTERRUPTS, lambda: [str(chosen.getrandbits(32))], "held\n", 50)


def forks(chosen: Random) -> Iterator[Tried]:
    """A child forked while other threads encode or open graphs gives the vectors of its parent."""
    yield from in_processes(FORKS, lambda: [chosen.choice(("opening", "encoding"))], f"{[0] * 30}\n", 30)


def in_processes(code: str, arguments: Any, expected: str, count: int) -> Iterator[Tried]:
    with tempfile.TemporaryDirectory() as made:
        bundle = write_bundle(Path(made) / "bundle")
        while True:
            command = [sys.executable, "-c", code, str(bundle), *arguments()]
            try:
                done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
                held, found = done.stdout == expected, f"{done.stdout} {done.stderr[-300:]}"
            except subprocess.TimeoutExpired:
                held, found = False, "it hangs"
            yield Tried(count, None if held else f"{command[3:]}: {found}")
