"""Many callers of one Expander, in a process of their own: bounded memory, and the same vectors."""

from __future__ import annotations

import subprocess
import sys

import pytest

CALLERS = """
import resource, sys, threading
from spladerunner import Expander
callers = int(sys.argv[1])
expander = Expander(threads=2)
text = "nuclear reactor " * 200
(expected,) = expander.encode(text)
wrong = []
def call():
    for _ in range(3):
        if expander.encode([text, text])[1] != expected:
            wrong.append(1)
threads = [threading.Thread(target=call) for _ in range(callers)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(wrong))
"""


@pytest.mark.slow
def test_forty_callers_take_the_memory_of_one_that_uses_all_threads() -> None:
    peaks = {}
    for callers in (1, 40):
        printed = subprocess.check_output([sys.executable, "-c", CALLERS, str(callers)], text=True)
        peaks[callers], wrong = map(int, printed.split())
        assert wrong == 0
    assert peaks[40] <= 1.3 * peaks[1], peaks


LONG_TEXTS = """
import asyncio, resource, sys, threading
from spladerunner import Expander
expander = Expander(threads=2)
text, callers = "数" * 70_000, 6
async def gather():
    await asyncio.gather(*(expander.aencode(text) for _ in range(callers)))
if sys.argv[1] == "one list":
    expander.encode([text] * callers)
elif sys.argv[1] == "event loop":
    asyncio.run(gather())
threads = [threading.Thread(target=expander.encode, args=(text,)) for _ in range(callers * (sys.argv[1] == "threads"))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_long_texts_without_spaces_of_many_callers_take_the_memory_of_one_list() -> None:
    """The tokens of one take 35 MB, and no second one fits beside it."""
    peaks = {
        kind: int(subprocess.check_output([sys.executable, "-c", LONG_TEXTS, kind], text=True))
        for kind in ("one list", "threads", "event loop")
    }
    assert max(peaks.values()) <= 1.3 * peaks["one list"], peaks
