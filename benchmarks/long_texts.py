"""Peak memory of one text of up to 8,192 tokens, in int8, and of FastEmbed's batches of texts of 512, in float32.

    python -m benchmarks.long_texts SHARED FOLDER

Both run the same random weights of GTE's shape (gte_model.py).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.environments import PROJECT, own_python, python_of
from benchmarks.gte_model import FASTEMBED_TOKENS, TOKENS
from benchmarks.harness import (
    argument_parser,
    environment_of_jobs,
    machine,
    markdown_table,
    run_job,
    save_result,
)
from benchmarks.workload import FP32, bundle_of, models_of

LENGTHS = (512, 2048, TOKENS)
BATCHES = (1, 4, 16)
DEFAULT_BATCH = 256
"""Of FastEmbed. Its logits alone take 16 GB, so it is not run."""

PROCESSES = 3

CODE = """
import sys
from spladerunner import Expander
bundle, length, text = sys.argv[1:]
expander = Expander(bundle, int(length), threads=1)
(count,) = expander.count_tokens(text)
assert count.cut
expander.encode(text)
(line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(line.split()[1]) / 1024)
"""


def measure(python: Path, bundle: Path, length: int) -> float:
    """Peak resident memory, in MB, of a process that encodes one text of this length."""
    text = "the river bank " * (length // 3 + 1)
    command = [str(python), "-c", CODE, str(bundle), str(length), text]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/", env=environment_of_jobs())
    return float(done.stdout)


def measure_fastembed(python: Path, fp32: Path, texts: Path, batch: int) -> float:
    """Peak resident memory in MB of a process that encodes a batch of texts of 512 tokens."""
    figures = run_job(
        python,
        {"system": "fastembed", "fp32": str(fp32), "texts": str(texts), "lists": [str(batch)], "batch": batch},
    )
    return float(figures["peak_mb"])


def write_texts(path: Path) -> Path:
    """Lists of texts of more than 512 tokens, by their number."""
    text = "the river bank " * (FASTEMBED_TOKENS // 3 + 1)
    path.write_text(json.dumps({str(batch): [text] * batch for batch in BATCHES}), encoding="utf-8")
    return path


def report(found: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Median megabytes by the tokens of a text, and by the texts of a batch."""
    ours, theirs = found["spladerunner"], found["fastembed"]
    rows = [
        ["spladerunner, int8", f"1 text of {int(tokens):,} tokens", f"{median(ours[tokens]):.0f}"]
        for tokens in sorted(ours, key=int)
    ]
    rows += [
        ["FastEmbed, float32", f"{batch} × {FASTEMBED_TOKENS} tokens", f"{median(theirs[batch]):.0f}"]
        for batch in sorted(theirs, key=int)
    ]
    logits = DEFAULT_BATCH * FASTEMBED_TOKENS * 30_522 * 4
    rows.append(
        [
            "FastEmbed, float32",
            f"{DEFAULT_BATCH} × {FASTEMBED_TOKENS} tokens, its default",
            f"over {logits / 2**20:.0f}: the logits",
        ]
    )
    return markdown_table(["", "", "peak MB"], rows)


def main() -> None:
    """Measures, saves the result and prints the table."""
    arguments = argument_parser(__doc__).parse_args()
    shared, folder = arguments.shared, arguments.folder
    models = models_of(folder, "gte")
    if not bundle_of(folder, "gte").exists():
        vocabulary = shared / "data" / "bert-base-uncased-vocab.txt"
        command = [python_of(folder, "transformers-5"), "-m", "benchmarks.gte_model", vocabulary, models]
        subprocess.run(command, check=True, cwd=PROJECT)
    own, fastembed, texts = own_python(folder), python_of(folder, "fastembed"), write_texts(models / "texts.json")
    bundle, fp32 = bundle_of(folder, "gte"), models / FP32
    # Not in rounds beside the machine's pace, on which memory does not depend.
    found = {
        "spladerunner": {str(length): [measure(own, bundle, length) for _ in range(PROCESSES)] for length in LENGTHS},
        "fastembed": {
            str(batch): [measure_fastembed(fastembed, fp32, texts, batch) for _ in range(PROCESSES)]
            for batch in BATCHES
        },
    }
    save_result("long texts", found)
    print(f"{machine()}\n\n{report(found)}")


if __name__ == "__main__":
    main()
