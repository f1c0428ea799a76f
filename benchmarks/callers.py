"""One Expander with 1 to 64 callers, in threads and on an event loop: documents a second, latency, peak memory.

python -m benchmarks.callers SHARED FOLDER
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.environments import own_python
from benchmarks.harness import argument_parser, in_rounds, machine, markdown_table, save_result
from benchmarks.workload import prepare, texts_file

DOCUMENTS = 640
LIST = "one list"
CALLERS = (1, 4, 16, 64)
ROUNDS = 3
KINDS = ("threads", "event loop")
SETTINGS = {LIST: (LIST, 1), **{f"{callers}, {kind}": (kind, callers) for kind in KINDS for callers in CALLERS}}
"""Kind and number of callers, by name."""

CODE = """
import asyncio, json, sys, threading, time
from spladerunner import Expander
model, texts, kind, callers, count = sys.argv[1:]
texts, callers = json.load(open(texts, encoding="utf-8"))["collection"][: int(count)], int(callers)
expander = Expander(*[model] if model else [])
expander.encode(max(texts, key=len))
latencies = []
def call(own):
    for text in own:
        started = time.perf_counter()
        expander.encode(text)
        latencies.append(time.perf_counter() - started)
async def acall(own):
    for text in own:
        started = time.perf_counter()
        await expander.aencode(text)
        latencies.append(time.perf_counter() - started)
async def gather(shares):
    await asyncio.gather(*map(acall, shares))
shares = [texts[n::callers] for n in range(callers)]
started = time.perf_counter()
if kind == "one list":
    expander.encode(texts)
elif kind == "threads":
    threads = [threading.Thread(target=call, args=(own,)) for own in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
else:
    asyncio.run(gather(shares))
seconds = time.perf_counter() - started
latencies.sort()
at = lambda share: latencies[int(share * (len(latencies) - 1))] if latencies else None
(line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
peak = int(line.split()[1]) / 1024
print(json.dumps({"docs_per_second": len(texts) / seconds, "p50": at(0.5), "p99": at(0.99), "peak_mb": peak}))
"""


def measure(python: Path, model: str, texts: Path, kind: str, callers: int, count: int = DOCUMENTS) -> dict[str, Any]:
    """Figures of a fresh process whose callers encode their shares of the documents, one document a call.

    model: folder of a bundle, or "" for the embedded pair. texts: file of the texts. kind: LIST, or one of KINDS.
    """
    command = [str(python), "-c", CODE, model, str(texts), kind, str(callers), str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def medians(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The median of each figure over the rounds; None where a round has none."""
    return {
        name: None if rounds[0][name] is None else median(figures[name] for figures in rounds) for name in rounds[0]
    }


def report(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Medians beside those of one list: documents a second, latencies in milliseconds, megabytes."""
    one_list = medians(found[LIST])
    rows = [
        [
            name,
            f"{figures['docs_per_second']:.0f}",
            f"{figures['docs_per_second'] / one_list['docs_per_second']:.2f}",
            *("" if figures[share] is None else f"{figures[share] * 1e3:.1f}" for share in ("p50", "p99")),
            f"{figures['peak_mb']:.0f}",
            f"{figures['peak_mb'] / one_list['peak_mb']:.2f}",
        ]
        for name, figures in ((name, medians(found[name])) for name in SETTINGS)
    ]
    head = ["callers", "documents a second", "of one list", "p50, ms", "p99, ms", "peak MB", "of one list"]
    return markdown_table(head, rows)


def main() -> None:
    """Measures, saves the result and prints the table."""
    arguments = argument_parser(__doc__).parse_args()
    shared, folder = arguments.shared, arguments.folder
    prepare(shared, folder, [])
    python = own_python(folder)
    texts = texts_file(folder)
    calls = {name: partial(measure, python, "", texts, *setting) for name, setting in SETTINGS.items()}
    found = in_rounds(calls, ROUNDS)
    save_result("callers", found)
    print(f"{machine()}\n\n{report(found)}")


if __name__ == "__main__":
    main()
