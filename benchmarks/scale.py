"""Workers of Ray and Spark against one process with as many threads; and what a billion passages take.

    python -m benchmarks.scale SHARED FOLDER [--try]

One worker to as many as there are cores are measured. What more nodes do is simulated, from rates that are measured
here. Texts are SciFact abstracts of 100 to 200 tokens.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.environments import clusters_python
from benchmarks.harness import argument_parser, in_rounds, machine, markdown_table, save_result, seconds, spread
from benchmarks.workload import bundle_of, prepare, texts_file
from spladerunner import Expander
from spladerunner.bulk import encode
from spladerunner.filesystem import Folder
from spladerunner.inference.cpu_count import available_cores
from spladerunner.models import embedded_folder
from spladerunner.parquet.parts import Part, part_name, write_manifest
from spladerunner.readers import Input
from spladerunner.readers.lines import starts_of_parts

SYSTEMS = {"process": "one process", "ray": "Ray", "spark": "Spark"}
MODELS = {"distilbert": "DistilBERT int8", "bert-base": "BERT-base int8"}
"""Shapes with random weights that keep as many weights a text as a trained model."""

COPIES = 100
"""Copies of the 16 texts for each worker with the embedded pair: some eight seconds."""

ROUNDS = 3
BILLION = 10**9
PART_LINES = 10_000
CORES_OF_A_NODE = 32
NODES = (1, 4, 16, 64, 256, 1024)

VCPU_HOUR = 0.34 / 8
"""Dollars: a c5.2xlarge of AWS in us-east-1 on demand, of 8 vCPUs, in the example of
https://docs.aws.amazon.com/autoscaling/ec2/userguide/weights-spot-price-per-unit-hour-example.html"""

GB_MONTH = 0.023
"""Dollars: the first 50 TB in S3 Standard of AWS in us-east-1, https://aws.amazon.com/s3/pricing/"""


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

    def bottleneck_moves(self) -> int:
        """The number of nodes from which encoding is not the longest stage.

        >>> rates = Rates(encoded=10.0, scanned=1e6, results=1000.0, stored=8000.0, vector=80.0)
        >>> rates.bottleneck_moves(), rates.bottleneck(3125), rates.bottleneck(3126)
        (3126, 'encode', "driver's scan")
        """
        return next(nodes for nodes in count(1) if self.bottleneck(nodes) != "encode")


def run(python: Path, job: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a job in a fresh process. Raises RuntimeError with its last line if it fails."""
    environment = {**os.environ, "PYSPARK_PYTHON": str(python), "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_OFFLINE": "1"}
    script = Path(__file__).with_name("scale_jobs.py")
    done = subprocess.run(
        [str(python), str(script), json.dumps(job)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{job['system']} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(python: Path, jobs: Mapping[str, Mapping[str, Any]], rounds: int) -> dict[str, list[dict[str, float]]]:
    """The figures of each job in each round, the jobs in turn."""
    return in_rounds({name: partial(run, python, job) for name, job in jobs.items()}, rounds)


def jobs_of_workers(texts: Path, cores: int, copies: int) -> dict[str, dict[str, Any]]:
    """A job for each system and number of workers, with the embedded pair."""
    job = {"texts": str(texts), "model": str(embedded_folder())}
    return {
        f"{system} {workers}": {**job, "system": system, "workers": workers, "copies": copies * workers}
        for workers in range(1, cores + 1)
        for system in SYSTEMS
    }


def jobs_of_models(folder: Path, cores: int, copies: int) -> dict[str, dict[str, Any]]:
    """A job for each larger model, in one process with a thread for each core."""
    job = {"texts": str(texts_file(folder)), "system": "process", "workers": cores, "copies": copies}
    return {shape: {**job, "model": str(bundle_of(folder, shape))} for shape in MODELS}


def driver_rates(folder: Path) -> dict[str, float]:
    """Lines a second that the driver scans, and parts a second that it lists."""
    lines, parts = 1_000_000, 10_000
    path = folder / "scan.tsv"
    text = "a passage of sixty words, as MS MARCO has them, each of some five letters " * 5
    with path.open("w") as file:
        for number in range(lines):
            file.write(f"{number}\t{text}\n")
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


def size_in_parquet(model: Path, texts: Path, folder: Path) -> dict[str, float]:
    """Weights of a vector, and the bytes by which it makes a part larger."""
    typical = json.loads(texts.read_text(encoding="utf-8"))["typical"]
    expander, sizes = Expander(model), []
    for number in (1, len(typical)):
        corpus, output = folder / f"{number}.txt", folder / f"{model.parent.name}-{number}.parquet"
        corpus.write_text("".join(" ".join(text.split()) + "\n" for text in typical[:number]), encoding="utf-8")
        encode(expander, [Input(str(corpus))], output)
        sizes.append(output.stat().st_size)
    weights = sum(map(len, expander.encode(typical)))
    return {"bytes": (sizes[1] - sizes[0]) / (len(typical) - 1), "weights": weights / len(typical)}


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {key: median(each[key] for each in rounds) for key in rounds[0]}


def rates_of(result: Mapping[str, Any]) -> Rates:
    """The rates of a result, on Ray with all its workers."""
    most = max(int(name.split()[1]) for name in result["workers"])
    figures = medians(result["workers"][f"ray {most}"])
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
    workers = {name: medians(rounds) for name, rounds in result["workers"].items()}
    measured = []
    for name, figures in workers.items():
        system, number = name.split()
        share = figures["docs_per_second"] / workers[f"process {number}"]["docs_per_second"]
        measured.append(
            [
                SYSTEMS[system],
                number,
                f"{figures['docs_per_second']:.0f}",
                f"{100 * share:.0f} %",
                f"{spread([each['docs_per_second'] for each in result['workers'][name]]):.0%}",
                f"{figures['seconds_to_first_row']:.1f}",
                f"{figures['peak_mb']:.0f}",
                f"{figures['models_opened'] / figures['workers']:.0f}",
            ]
        )
    rates = rates_of(result)
    simulated = [
        [f"{nodes:,}", f"{rates.documents_per_second(nodes):,.0f}", rates.bottleneck(nodes)] for nodes in NODES
    ]
    moves = rates.bottleneck_moves()
    cores = max(int(name.split()[1]) for name in workers)
    speeds = {"embedded pair": workers[f"process {cores}"]} | {
        name: medians(result["models"][shape]) for shape, name in MODELS.items()
    }
    billion = []
    for name, figures in speeds.items():
        rate, size = figures["docs_per_second"] / cores, result["parquet"][name]
        hours, stored = BILLION / rate / 3600, size["bytes"] * BILLION / 1e9
        billion.append(
            [
                name,
                f"{rate:.1f}",
                f"{hours:,.0f}",
                f"{hours * VCPU_HOUR:,.0f}",
                f"{size['weights']:.0f}",
                f"{stored:,.0f}",
                f"{stored * GB_MONTH:,.0f}",
            ]
        )
    billion.append(["on a GPU", "not measured", *[""] * 5])
    return "\n\n".join(
        [
            markdown_table(
                [
                    "",
                    "workers or threads",
                    "documents a second",
                    "of one process",
                    "spread",
                    "first row, s",
                    "MB a worker",
                    "models a worker",
                ],
                measured,
            ),
            f"Simulated, a billion passages on nodes of {CORES_OF_A_NODE} cores:",
            markdown_table(["nodes", "documents a second", "longest stage"], simulated),
            f"Up to {moves - 1:,} nodes encoding is the longest stage; from {moves:,} on, {rates.bottleneck(moves)}.",
            markdown_table(
                [
                    "a billion passages",
                    "documents a second and core",
                    "core-hours",
                    "dollars",
                    "weights a vector",
                    "GB in Parquet",
                    "dollars a month",
                ],
                billion,
            ),
        ]
    )


def main() -> None:
    """Measures, saves the result and prints the tables."""
    parser = argument_parser(__doc__)
    parser.add_argument("--try", action="store_true", dest="tried", help="one round of few texts, and nothing saved")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    python = clusters_python()
    prepare(arguments.shared, folder, tuple(MODELS))
    copies, rounds = (16, 1) if arguments.tried else (COPIES, ROUNDS)
    cores, texts = available_cores(), texts_file(folder)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        models = {"embedded pair": embedded_folder()} | {
            name: bundle_of(folder, shape) for shape, name in MODELS.items()
        }
        result = {
            "workers": measure(python, jobs_of_workers(texts, cores, copies), rounds),
            "models": measure(python, jobs_of_models(folder, cores, max(1, copies // 8)), rounds),
            "driver": driver_rates(Path(scratch)),
            "parquet": {name: size_in_parquet(model, texts, Path(scratch)) for name, model in models.items()},
        }
    if not arguments.tried:
        save_result("scale", result)
    print(f"{machine()}, {time.monotonic() - started:.0f} s\n\n{report(result)}")


if __name__ == "__main__":
    main()
