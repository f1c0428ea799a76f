"""Peak memory over ten thousand documents, and under a limit.

python -m benchmarks.memory SHARED FOLDER
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.materials import make, own_environment
from benchmarks.measure import keep, machine, table

DOCUMENTS = 10_000

CODE = """
import itertools, json, sys
from spladerunner import Expander
model, texts, count = sys.argv[1:]
expander = Expander(*[model] if model else [])
def peak():  # getrusage would count its parent's, from before it was this program
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
found = {"before": peak()}
def mixed():
    while True:
        with open(texts, encoding="utf-8") as file:
            for n, line in zip(itertools.cycle((None, 60, None, 400, 1200)), file):
                yield json.loads(line)["text"][:n]
for n, _ in enumerate(expander.stream(itertools.islice(mixed(), int(count))), 1):
    if n in (1, 100, 1000, 2500, 5000, 7500, int(count)):
        found[n] = peak()
print(json.dumps(found))
"""


def measure(python: Path, model: str, texts: Path, count: int) -> dict[str, float]:
    """Peak resident memory in MB after so many documents, which are read from a file one by one."""
    command = [str(python), "-c", CODE, model, str(texts), str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measures, keeps and prints."""
    shared, folder = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
    make(shared, folder)
    own = own_environment(folder)
    bundle = str(folder / "bert-base-made" / "bundle")
    found = {
        name: measure(own, model, shared / "data" / "scifact" / "corpus.jsonl", DOCUMENTS)
        for name, model in (("embedded pair", ""), ("BERT-base int8", bundle))
    }
    print(machine(), "\n")
    marks = list(next(iter(found.values())))
    print(
        table(
            ["peak MB after", *marks],
            [[name, *(f"{mb:.0f}" for mb in peaks.values())] for name, peaks in found.items()],
        )
    )
    keep("memory", found)


if __name__ == "__main__":
    main()
