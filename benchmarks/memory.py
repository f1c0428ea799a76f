"""Peak memory of a process over ten thousand documents.

python -m benchmarks.memory SHARED FOLDER
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.environments import own_python
from benchmarks.harness import argument_parser, machine, markdown_table, save_result
from benchmarks.workload import bundle_of, prepare

PAIR, BERT_BASE = "embedded pair", "BERT-base int8"
DOCUMENTS = {PAIR: 10_000, BERT_BASE: 1_000}
MARKS = ("before", "1", "100", "1000", "2500", "5000", "7500", "10000")
ROUNDS = 3

CODE = """
import itertools, json, sys
from spladerunner import Expander
model, texts, count = sys.argv[1:]
expander = Expander(*[model] if model else [])
found = {}
def peak():  # getrusage would include the parent's peak, from before exec
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    # The kernel counts in batches, so that a later reading can be lower by some pages.
    return max(int(line.split()[1]) / 1024, *found.values(), 0)
found["before"] = peak()
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
    """Peak resident memory in MB by the number of documents encoded so far; they are read from a file one by one.

    model: folder of a bundle, or "" for the embedded pair. texts: JSON Lines with the key text.
    """
    command = [str(python), "-c", CODE, model, str(texts), str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def report(found: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Median megabytes by the number of documents."""
    rows = [
        [
            name,
            *(
                f"{median(peaks[mark] for peaks in found[name]):.0f}" if mark in found[name][0] else ""
                for mark in MARKS
            ),
        ]
        for name in (PAIR, BERT_BASE)
    ]
    return markdown_table(["peak MB after", *MARKS], rows)


def main() -> None:
    """Measures, saves the result and prints the table."""
    arguments = argument_parser(__doc__).parse_args()
    shared, folder = arguments.shared, arguments.folder
    prepare(shared, folder, ["bert-base"])
    python = own_python(folder)
    models = {PAIR: "", BERT_BASE: str(bundle_of(folder, "bert-base"))}
    corpus = shared / "data" / "scifact" / "corpus.jsonl"
    # Memory does not depend on the pace of the machine.
    found = {
        name: [measure(python, model, corpus, DOCUMENTS[name]) for _ in range(ROUNDS)] for name, model in models.items()
    }
    save_result("memory", found)
    print(f"{machine()}\n\n{report(found)}")


if __name__ == "__main__":
    main()
