"""How the cost grows: with a text's length, the number of texts, the vocabulary, threads and processes.

python -m benchmarks.scaling SHARED FOLDER
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.checkpoints import make_checkpoint
from benchmarks.materials import make, make_bundle, make_texts, own_environment
from benchmarks.measure import in_turn, keep, machine, median, table
from spladerunner import Expander
from spladerunner.inference.cpu_count import available_cores
from spladerunner.model.registry import embedded_folder

LENGTHS = (16, 32, 64, 128, 256, 512)
COUNTS = (250, 500, 1000, 2000)
VOCABULARIES = (7_630, 15_261, 30_522, 61_044, 122_088)

PROCESS = """
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


def seconds(run: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def in_processes(python: Path, bundle: Path, texts: Path, count: int, processes: int) -> float:
    """Documents a second of several processes of one thread each, that start together."""
    command = [str(python), "-c", PROCESS, str(bundle), str(texts), str(count)]
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


def in_threads(expander: Expander, texts: Sequence[str]) -> float:
    """Documents a second of one process."""
    return len(texts) / seconds(partial(expander.encode, texts))


def with_vocabulary(shared: Path, folder: Path, size: int) -> Path:
    """A bundle of BERT-tiny shape whose vocabulary is cut or filled up to a size."""
    target = folder / f"vocabulary-{size}"
    if not (target / "bundle").exists():
        target.mkdir(exist_ok=True)
        words = (shared / "data" / "bert-base-uncased-vocab.txt").read_text(encoding="utf-8").splitlines()
        words = [*words[:size], *(f"[filler{n}]" for n in range(size - len(words)))]
        (target / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
        some = make_texts(shared, folder)["typical"][:4]
        make_bundle(make_checkpoint("bert-tiny", target / "checkpoint", target / "vocab.txt", some), target)
    return target / "bundle"


def main() -> None:
    """Measures, keeps and prints."""
    shared, folder = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
    make(shared, folder)
    texts = make_texts(shared, folder)
    cores = available_cores()
    bundles = {"embedded pair": embedded_folder(), "BERT-base int8": folder / "bert-base-made" / "bundle"}
    print(machine(), "\n")

    long = " ".join(texts["cut at 512"])
    by_length: dict[str, dict[int, float]] = {}
    for name, bundle in bundles.items():
        lengths = [n for n in LENGTHS if n <= (256 if name == "embedded pair" else 512)]
        expanders = {n: Expander(bundle, n, threads=1) for n in lengths}
        for expander in expanders.values():
            expander.encode(long)
        ways = {str(n): partial(seconds, partial(expander.encode, long)) for n, expander in expanders.items()}
        by_length[name] = {int(n): median(times) for n, times in in_turn(ways, 15).items()}
    rows = [
        [name, *(f"{found[n] * 1e3:.1f}" if n in found else "" for n in LENGTHS)] for name, found in by_length.items()
    ]
    print(table(["ms a text of so many tokens, one thread", *map(str, LENGTHS)], rows), "\n")

    expander = Expander(threads=cores)
    expander.encode(texts["mixed"])
    ways = {
        str(n): partial(seconds, partial(expander.encode, list(itertools.islice(itertools.cycle(texts["mixed"]), n))))
        for n in COUNTS
    }
    by_count = {int(n): median(times) for n, times in in_turn(ways, 3).items()}
    rows = [["embedded pair", *(f"{n / by_count[n]:.0f}" for n in COUNTS)]]
    print(table(["documents a second, of so many", *map(str, COUNTS)], rows), "\n")

    vocabularies = {n: Expander(with_vocabulary(shared, folder, n), 128, threads=1) for n in VOCABULARIES}
    for expander in vocabularies.values():
        expander.encode(long)
    ways = {str(n): partial(seconds, partial(expander.encode, long)) for n, expander in vocabularies.items()}
    by_vocabulary = {int(n): median(times) for n, times in in_turn(ways, 15).items()}
    rows = [["BERT-tiny shape, 128 tokens", *(f"{by_vocabulary[n] * 1e3:.2f}" for n in VOCABULARIES)]]
    print(table(["ms a text, by vocabulary", *map(str, VOCABULARIES)], rows), "\n")

    own = own_environment(folder)
    by_workers: dict[str, dict[str, float]] = {}
    for name, bundle in bundles.items():
        count = 600 if name == "embedded pair" else 60
        some = texts["collection"][:count]
        threads = {f"{n} threads": Expander(bundle, 128, threads=n) for n in range(1, cores + 1)}
        for expander in threads.values():
            expander.encode(some[:2])
        speeds: dict[str, Callable[[], float]] = {
            way: partial(in_threads, expander, some) for way, expander in threads.items()
        }
        speeds |= {
            f"{n} processes": partial(in_processes, own, bundle, folder / "texts.json", count, n)
            for n in range(1, cores + 2)
        }
        by_workers[name] = {way: median(found) for way, found in in_turn(speeds, 3).items()}
    ways_of = list(next(iter(by_workers.values())))
    rows = [[name, *(f"{found[way]:.1f}" for way in ways_of)] for name, found in by_workers.items()]
    print(table(["documents a second, 128 tokens", *ways_of], rows))
    keep(
        "scaling",
        {"length": by_length, "count": by_count, "vocabulary": by_vocabulary, "threads and processes": by_workers},
    )


if __name__ == "__main__":
    main()
