"""Workers of Ray and Spark against one process with as many threads; and what a billion passages take.

One worker to as many as there are cores are measured. What more nodes do is simulated, from rates that are measured
here. Texts are SciFact abstracts of 100 to 200 tokens.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.environments import clusters_python
from benchmarks.harness import RESULTS, argument_parser, in_rounds, machine, markdown_table, save_result, seconds
from benchmarks.workload import choose_texts, texts_file
from spladerunner import Expander
from spladerunner.bulk import encode
from spladerunner.filesystem import Folder
from spladerunner.inference.cpu_count import available_cores
from spladerunner.models import embedded_folder
from spladerunner.parquet.parts import Part, part_name, write_manifest
from spladerunner.readers import Input
from spladerunner.readers.lines import starts_of_parts

SYSTEMS = ("process", "ray", "spark")
COPIES = 60
"""Copies of the 16 texts for each worker."""

ROUNDS = 3
BILLION = 10**9
PART_LINES = 10_000
CORES_OF_A_NODE = 32
NODES = (1, 4, 16, 64, 256, 1024)

VCPU_HOUR = 0.0425
"""Dollars: c5.2xlarge of AWS in us-east-1 on demand, 0.34 an hour for 8 vCPUs, in the guide of EC2 Auto Scaling."""

GB_MONTH = 0.023
"""Dollars: the standard class of AWS S3 in us-east-1."""

MODELS = {"embedded pair": "tiny-en", "DistilBERT int8": "distilbert", "BERT-base int8": "bert-base"}


@dataclass(frozen=True)
class Rates:
    """Rates of one machine, from which more of them are simulated.

    encoded: documents a second and core, on an engine. scanned: lines a second, in which the driver finds where parts
    begin. results: parts a second that the driver takes and lists in the manifest. stored: bytes a second into and out
    of one node's object store; no network is between. vector: bytes of a vector in Arrow.
    """

    encoded: float
    scanned: float
    results: float
    stored: float
    vector: float

    def seconds(self, nodes: int, documents: int = BILLION) -> dict[str, float]:
        """Seconds of each stage for documents on a number of nodes. The first three overlap; the scan comes before.

        >>> Rates(10.0, 1000.0, 1.0, 8000.0, 800.0).seconds(1, 10_000)["encode"]
        31.25
        """
        return {
            "encode": documents / (nodes * CORES_OF_A_NODE * self.encoded),
            "object store": documents * self.vector / (nodes * self.stored),
            "driver's results": documents / PART_LINES / self.results,
            "driver's scan": documents / self.scanned,
        }

    def documents_per_second(self, nodes: int) -> float:
        """Documents a second of a whole job."""
        stages = self.seconds(nodes)
        scan = stages.pop("driver's scan")
        return BILLION / (scan + max(stages.values()))

    def bottleneck(self, nodes: int) -> str:
        """The stage that takes longest."""
        stages = self.seconds(nodes)
        return max(stages, key=lambda name: stages[name])


def run(python: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a job in a fresh process. Raises RuntimeError with its last line if it fails."""
    environment = {**os.environ, "PYSPARK_PYTHON": str(python), "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_OFFLINE": "1"}
    script = Path(__file__).with_name("scale_jobs.py")
    done = subprocess.run(
        [str(python), str(script), json.dumps(job)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=1200,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{job['system']} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure_workers(python: Path, texts: Path, cores: int, copies: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Median figures of each system by the number of workers, measured in turn."""
    found: dict[str, list[dict[str, Any]]] = {}

    def measurement(system: str, workers: int) -> Any:
        def call() -> float:
            job = {
                "system": system,
                "workers": workers,
                "texts": str(texts),
                "copies": copies * workers,
                "model": str(embedded_folder()),
            }
            found.setdefault(f"{system} {workers}", []).append(run(python, job))
            return 0.0

        return call

    calls = {f"{name} {n}": measurement(name, n) for n in range(1, cores + 1) for name in SYSTEMS}
    in_rounds(calls, rounds)
    return {name: {key: median(each[key] for each in runs) for key in runs[0]} for name, runs in found.items()}


def driver_rates(folder: Path) -> dict[str, float]:
    """Lines a second that the driver scans, and parts a second that it lists."""
    lines, parts = 2_000_000, 20_000
    path = folder / "scan.tsv"
    with path.open("w") as file:
        for number in range(lines):
            file.write(f"{number}\tThe Manhattan Project and its atomic bomb helped bring an end to World War II.\n")
    scan = seconds(lambda: sum(1 for _ in starts_of_parts([Input(str(path))], PART_LINES)))
    path.unlink()
    digest = "0" * 64
    results = [
        pickle.dumps(Part(part_name(n), PART_LINES, 10_000_000, digest, digest, n * PART_LINES, PART_LINES, 0, digest))
        for n in range(parts)
    ]
    job = {"model": "m", "fingerprint": digest, "role": "doc"}
    listed = seconds(lambda: write_manifest(Folder(f"{folder}/manifest"), job, list(map(pickle.loads, results))))
    return {"scanned": lines / scan, "results": parts / listed}


def bytes_in_parquet(texts: Sequence[str], folder: Path) -> dict[str, float]:
    """Bytes and weights of a vector in a part."""
    corpus = folder / "bytes.txt"
    corpus.write_text("".join(" ".join(text.split()) + "\n" for text in texts), encoding="utf-8")
    encode(Expander(), [Input(str(corpus))], folder / "bytes.parquet")
    weights = [len(vector) for vector in Expander().encode(texts)]
    return {
        "bytes": (folder / "bytes.parquet").stat().st_size / len(texts),
        "weights": sum(weights) / len(weights),
    }


def rates_of_models() -> dict[str, float]:
    """Documents a second and core of each model, from the records of benchmarks.throughput on texts of this length."""
    records = json.loads(RESULTS.read_text(encoding="utf-8"))
    rates = {}
    for name, shape in MODELS.items():
        record = records[f"throughput {shape}"]
        rounds = record["result"]["rounds"]["spladerunner"]
        cores = int(record["machine"].split(" cores")[0].split()[-1])
        rates[name] = median(each["docs_per_second"]["typical"] for each in rounds) / cores
    return rates


def rates_of(result: Mapping[str, Any]) -> Rates:
    """The rates of a result, on Ray with all its workers."""
    most = max(int(name.split()[1]) for name in result["workers"])
    figures = result["workers"][f"ray {most}"]
    driver = result["driver"]
    return Rates(
        figures["docs_per_second"] / most,
        driver["scanned"],
        driver["results"],
        figures["stored"],
        figures["bytes_per_vector"],
    )


def report(result: Mapping[str, Any]) -> str:
    """The tables: measured workers, simulated nodes, and a billion passages."""
    workers: Mapping[str, Mapping[str, float]] = result["workers"]
    measured = []
    for name, figures in workers.items():
        system, count = name.split()
        share = figures["docs_per_second"] / workers[f"process {count}"]["docs_per_second"]
        measured.append(
            [
                {"process": "one process", "ray": "Ray", "spark": "Spark"}[system],
                count,
                f"{figures['docs_per_second']:.0f}",
                f"{100 * share:.0f} %",
                f"{figures['seconds_to_first_row']:.1f}",
                f"{figures['peak_mb']:.0f}",
                f"{figures['models_opened'] / figures['workers']:.0f}",
            ]
        )
    rates = rates_of(result)
    simulated = [
        [f"{nodes:,}", f"{rates.documents_per_second(nodes):,.0f}", rates.bottleneck(nodes)] for nodes in NODES
    ]
    size = result["parquet"]
    billion = []
    for name, rate in result["models"].items():
        hours = BILLION / rate / 3600
        billion.append([name, f"{rate:.1f}", f"{hours:,.0f}", f"{hours * VCPU_HOUR:,.0f}"])
    stored = size["bytes"] * BILLION / 1e9
    bytes_of_pair = (
        f"A vector of the embedded pair has {size['weights']:.0f} weights and {size['bytes']:.0f} bytes in Parquet: "
        f"{stored:,.0f} GB for a billion, {stored * GB_MONTH:,.0f} dollars a month."
    )
    head = ["", "workers or threads", "documents a second", "of one process", "first row, s", "MB a worker", "models"]
    return "\n\n".join(
        [
            markdown_table(head, measured),
            f"Simulated: nodes of {CORES_OF_A_NODE} cores, a billion passages.",
            markdown_table(["nodes", "documents a second", "longest stage"], simulated),
            markdown_table(["a billion passages", "documents a second and core", "core-hours", "dollars"], billion),
            bytes_of_pair,
        ]
    )


def main() -> None:
    """Measures, saves the result and prints the tables."""
    parser = argument_parser(__doc__)
    parser.add_argument("--try", action="store_true", dest="tried", help="one round of few texts, and nothing saved")
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    if not texts_file(folder).exists():
        data = arguments.shared / "data"
        lines = (data / "scifact" / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
        texts = choose_texts([json.loads(line) for line in lines], data / "bert-base-uncased-vocab.txt")
        texts_file(folder).write_text(json.dumps(texts), encoding="utf-8")
    typical = json.loads(texts_file(folder).read_text(encoding="utf-8"))["typical"]
    copies, rounds = (6, 1) if arguments.tried else (COPIES, ROUNDS)
    python = Path(sys.executable) if arguments.tried else clusters_python(folder)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        result = {
            "workers": measure_workers(python, texts_file(folder), available_cores(), copies, rounds),
            "driver": driver_rates(Path(scratch)),
            "parquet": bytes_in_parquet(typical, Path(scratch)),
            "models": rates_of_models(),
        }
    if not arguments.tried:
        save_result("scale", result)
    print(f"{machine()}, {time.monotonic() - started:.0f} s\n\n{report(result)}")


if __name__ == "__main__":
    main()
