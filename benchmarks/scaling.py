"""Growth of the cost with the length of a text, the number of texts, the vocabulary, threads and processes.

python -m benchmarks.scaling SHARED FOLDER
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.environments import own_python
from benchmarks.harness import argument_parser, in_rounds, machine, markdown_table, save_result, seconds
from benchmarks.workload import bundle_of, prepare, read_texts, texts_file, write_bundle
from spladerunner import Expander
from spladerunner.inference.cpu_count import available_cores
from spladerunner.models import embedded_folder

PAIR, BERT_BASE = "embedded pair", "BERT-base int8"
LENGTHS = (16, 32, 64, 128, 256, 512)
COUNTS = (250, 500, 1000)
ROUNDS = 3
VOCABULARY_SIZES = (7_630, 15_261, 30_522, 61_044, 122_088)
DOCUMENTS = {PAIR: 600, BERT_BASE: 60}
"""Documents of a run with several threads or processes."""

PROCESS_CODE = """
import json, sys, time
from spladerunner import Expander
bundle, texts, count = sys.argv[1:]
texts = json.load(open(texts, encoding="utf-8"))["collection"][: int(count)]
expander = Expander(bundle, 128, threads=1)
expander.encode(texts[0])
print("ready", flush=True)
sys.stdin.readline()
started = time.perf_counter()
expander.encode(texts)
print(time.perf_counter() - started)
"""


def speed_of_processes(python: Path, bundle: Path, texts: Path, count: int, processes: int) -> float:
    """Documents a second of processes of one thread each, which start to encode together."""
    command = [str(python), "-c", PROCESS_CODE, str(bundle), str(texts), str(count)]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
        for _ in range(processes)
    ]
    for process in running:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    return processes * count / max(float(process.communicate()[0]) for process in running)


def speed_of_expander(expander: Expander, texts: Sequence[str]) -> float:
    """Documents a second of one process."""
    return len(texts) / seconds(partial(expander.encode, texts))


def seconds_of_each(expanders: Mapping[str, Expander], text: str) -> dict[str, list[float]]:
    """Seconds to encode a text with each expander, in turn, fifteen rounds."""
    for expander in expanders.values():
        expander.encode(text)
    calls = {name: partial(seconds, partial(expander.encode, text)) for name, expander in expanders.items()}
    return in_rounds(calls, 15)


def by_length(bundle: Path, longest: int, text: str) -> dict[str, list[float]]:
    """Seconds by the length at which a long text is truncated."""
    lengths = [n for n in LENGTHS if n <= longest]
    return seconds_of_each({str(n): Expander(bundle, n, threads=1) for n in lengths}, text)


def by_count(texts: Sequence[str], cores: int) -> dict[str, list[float]]:
    """Seconds of the embedded pair by the number of texts."""
    expander = Expander(threads=cores)
    expander.encode(texts)
    calls = {
        str(n): partial(seconds, partial(expander.encode, list(itertools.islice(itertools.cycle(texts), n))))
        for n in COUNTS
    }
    return in_rounds(calls, ROUNDS)


def by_vocabulary(shared: Path, folder: Path, text: str, calibration: Sequence[str]) -> dict[str, list[float]]:
    """Seconds by the size of the vocabulary."""
    bundles = {n: write_bundle_with_vocabulary(shared, folder, n, calibration) for n in VOCABULARY_SIZES}
    return seconds_of_each({str(n): Expander(bundle, 128, threads=1) for n, bundle in bundles.items()}, text)


def write_bundle_with_vocabulary(shared: Path, folder: Path, size: int, calibration: Sequence[str]) -> Path:
    """Writes a bundle of BERT-tiny's shape whose vocabulary is truncated or extended to a size."""
    target = folder / "models" / f"vocabulary-{size}"
    if not (target / "bundle").exists():
        from benchmarks.checkpoints import write_checkpoint

        target.mkdir(parents=True, exist_ok=True)
        words = (shared / "data" / "bert-base-uncased-vocab.txt").read_text(encoding="utf-8").splitlines()
        words = [*words[:size], *(f"[filler{n}]" for n in range(size - len(words)))]
        vocabulary = target / "vocab.txt"
        vocabulary.write_text("\n".join(words) + "\n", encoding="utf-8")
        write_bundle(write_checkpoint("bert-tiny", target / "checkpoint", vocabulary, calibration), target)
    return target / "bundle"


def by_workers(folder: Path, name: str, bundle: Path, collection: Sequence[str], cores: int) -> dict[str, list[float]]:
    """Documents a second by the number of threads, and by the number of processes of one thread."""
    python = own_python(folder)
    texts = collection[: DOCUMENTS[name]]
    expanders = {f"{n} threads": Expander(bundle, 128, threads=n) for n in range(1, cores + 1)}
    for expander in expanders.values():
        expander.encode(texts[:2])
    speeds: dict[str, Callable[[], float]] = {
        workers: partial(speed_of_expander, expander, texts) for workers, expander in expanders.items()
    }
    speeds |= {
        f"{n} processes": partial(speed_of_processes, python, bundle, texts_file(folder), len(texts), n)
        for n in range(1, cores + 2)
    }
    return in_rounds(speeds, ROUNDS)


def report(found: Mapping[str, Any]) -> str:
    """One table for each quantity that grows."""

    def table(head: str, columns: Sequence[object], rows: Mapping[str, Sequence[str]]) -> str:
        return markdown_table([head, *map(str, columns)], [[name, *cells] for name, cells in rows.items()])

    length, count, vocabulary = found["length"], found["count"], found["vocabulary"]
    workers: Mapping[str, Mapping[str, Sequence[float]]] = found["threads and processes"]
    kinds = sorted(workers[PAIR], key=lambda name: (name.split()[1] == "processes", int(name.split()[0])))
    return "\n\n".join(
        [
            table(
                "ms a text, one thread, by tokens",
                LENGTHS,
                {
                    name: [
                        f"{median(length[name][str(n)]) * 1e3:.1f}" if str(n) in length[name] else "" for n in LENGTHS
                    ]
                    for name in (PAIR, BERT_BASE)
                },
            ),
            table(
                "documents a second, by documents", COUNTS, {PAIR: [f"{n / median(count[str(n)]):.0f}" for n in COUNTS]}
            ),
            table(
                "ms a text, by vocabulary",
                VOCABULARY_SIZES,
                {"BERT-tiny shape, 128 tokens": [f"{median(vocabulary[str(n)]) * 1e3:.2f}" for n in VOCABULARY_SIZES]},
            ),
            table(
                "documents a second, 128 tokens",
                kinds,
                {name: [f"{median(workers[name][kind]):.1f}" for kind in kinds] for name in (PAIR, BERT_BASE)},
            ),
        ]
    )


def main() -> None:
    """Measures, saves the result and prints the tables."""
    arguments = argument_parser(__doc__).parse_args()
    shared, folder = arguments.shared, arguments.folder
    prepare(shared, folder, ["bert-base"])
    texts = read_texts(folder)
    cores = available_cores()
    long = " ".join(texts["cut at 512"])
    bert_base = bundle_of(folder, "bert-base")
    bundles = {PAIR: embedded_folder(), BERT_BASE: bert_base}
    found = {
        "length": {PAIR: by_length(embedded_folder(), 256, long), BERT_BASE: by_length(bert_base, 512, long)},
        "count": by_count(texts["mixed"], cores),
        "vocabulary": by_vocabulary(shared, folder, long, texts["typical"][:4]),
        "threads and processes": {
            name: by_workers(folder, name, bundle, texts["collection"], cores) for name, bundle in bundles.items()
        },
    }
    save_result("scaling", found)
    print(f"{machine()}\n\n{report(found)}")


if __name__ == "__main__":
    main()
