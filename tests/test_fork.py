"""Forks while other threads open graphs and encode: the child works, and never hangs."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

from spladerunner import Expander
from spladerunner.inference import fork
from spladerunner.inference.scheduler import run_in_order
from spladerunner.inference.tokenizer import TokenizedText
from tests.small_model import write_bundle

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

FORKS = """
import os, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of every fork beside threads
from spladerunner import Expander
model, opening = sys.argv[1], sys.argv[2] == "opening"
shared = Expander(model, threads=2)
expected = shared.expand("the cat sat")
stop = False
def busy():
    while not stop:
        expander = Expander(model, threads=2) if opening else shared
        expander.encode(["the cat sat on the mat"] * 4)
threads = [threading.Thread(target=busy) for _ in range(3)]
for thread in threads:
    thread.start()
ended = []
for _ in range(30):
    child = os.fork()
    if not child:
        same = shared.expand("the cat sat") == expected and Expander(model).expand("the cat sat") == expected
        os._exit(0 if same else 1)
    deadline = time.monotonic() + 30
    while not (done := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, 9)
        time.sleep(0.002)
    ended.append(done[1])
stop = True
for thread in threads:
    thread.join()
print(ended)
"""


@pytest.mark.slow
@pytest.mark.parametrize("work", ["opening", "encoding"])
def test_a_child_of_fork_encodes(tmp_path: Path, work: str) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    done = subprocess.run(
        [sys.executable, "-c", FORKS, bundle, work], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout == f"{[0] * 30}\n", done.stderr


@pytest.mark.slow
def test_a_stream_cannot_be_continued_in_a_child(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    code = (
        "import os, sys\n"
        "from spladerunner import Expander\n"
        "vectors = Expander(sys.argv[1], threads=2).stream(f'the cat {n}' for n in range(100))\n"
        "next(vectors)\n"
        "if os.fork():\n"
        "    os.wait()\n"
        "    print(sum(1 for _ in vectors))\n"
        "else:\n"
        "    try:\n"
        "        list(vectors)\n"
        "    except RuntimeError as error:\n"
        "        print(error, flush=True)\n"
        "    os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, bundle], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == ("a stream of vectors cannot be continued in a forked process: begin another one there\n99\n")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_does_not_end_the_threads_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even after the last text, while a thread of the parent is being started."""
    start, started = threading.Thread.start, threading.Event()

    def slow(self: threading.Thread) -> None:
        start(self)
        if self.name == "spladerunner":
            started.wait(60)

    monkeypatch.setattr(threading.Thread, "start", slow)
    one = np.ones((1, 1), np.int64)
    text = TokenizedText(one, one, one, content_tokens=1)
    results = run_in_order([text], lambda text: 7, threads=2, tokens_in_flight=10)
    assert next(results) == 7
    child = os.fork()
    if not child:
        signal.alarm(30)
        try:
            list(results)
        except RuntimeError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    started.set()
    assert list(results) == []


def test_a_fork_waits_for_calls_and_keeps_new_ones_out() -> None:
    order = list[str]()
    inside, leave = threading.Event(), threading.Event()

    def call() -> None:
        with fork.native_lock(), fork.native_lock():
            inside.set()
            leave.wait()
            order.append("call")

    def late_call() -> None:
        with fork.native_lock():
            order.append("late call")

    first = threading.Thread(target=call)
    first.start()
    inside.wait()
    threading.Timer(0.05, leave.set).start()
    fork._before_fork()
    order.append("fork")
    second = threading.Thread(target=late_call)
    second.start()
    second.join(0.05)
    assert order == ["call", "fork"]
    fork._release()
    first.join()
    second.join()
    assert order == ["call", "fork", "late call"]


def test_a_fork_inside_a_call_of_its_own_thread_does_not_wait_for_itself() -> None:
    with fork.native_lock():
        fork._before_fork()
        fork._release()
    with fork.native_lock():
        pass


def test_what_a_finalizer_drops_during_a_fork_is_destroyed_after_it() -> None:
    class Native:
        pass

    native = Native()
    alive = weakref.ref(native)
    objects: list[object] = [native]
    del native
    fork._before_fork()
    other = threading.Thread(target=fork.destroy, args=(objects,))
    other.start()
    other.join()
    objects.clear()
    assert alive() is not None
    fork._release()
    assert alive() is None


def test_a_subclass_with_its_own_equality_can_be_made_and_pickled(tmp_path: Path) -> None:
    expander = Named(write_bundle(tmp_path / "bundle"), threads=1)
    assert type(pickle.loads(pickle.dumps(expander))) is Named and expander == expander.name


class Named(Expander):
    def __eq__(self, other: object) -> bool:
        return self.name == other

    __hash__ = None  # type: ignore[assignment]


def test_an_expander_is_pickled_as_its_arguments(tmp_path: Path) -> None:
    expander = Expander(write_bundle(tmp_path / "bundle"), {"query": 8}, threads=1, batch_tokens=64)
    expander.encode("the cat")
    copy = pickle.loads(pickle.dumps(expander))
    assert repr(copy) == repr(expander) and copy.fingerprint == expander.fingerprint
    assert copy.expand("the cat sat") == expander.expand("the cat sat")


def test_an_expander_of_a_relative_path_is_pickled_with_the_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(Expander(Path("bundle")))
    monkeypatch.chdir("/")
    assert pickle.loads(pickled).expand("the cat") == Expander(tmp_path / "bundle").expand("the cat")
