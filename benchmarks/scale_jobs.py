"""Runs one measurement of benchmarks/scale.py in a fresh process: python scale_jobs.py JOB prints its figures as JSON.

A job has system, workers, texts, copies, model. The engines run encode() as users call it; its encoder notes when each
batch was done, where, and in how much memory. Their vectors go where an engine puts results: Ray's object store, and
the JVM.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from spladerunner import Expander
from spladerunner.distributed.worker import TableEncoder

BATCH = 64
BLOCK = 32 << 20

Stamp = dict[str, Any]


def peak_mb() -> float:
    """Peak resident memory of this process; getrusage would include the parent's, from before exec."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


@dataclass(frozen=True)
class StampedEncoder(TableEncoder):
    """The encoder of encode(), which adds a line about each batch to a file of its process in the folder `stamps`."""

    stamps: str = ""

    def table(self, found: Any) -> Any:
        """Encodes an Arrow table."""
        made = super().table(found)
        stamp = {
            "at": time.time(),
            "rows": made.num_rows,
            "bytes": sum(made.column(name).nbytes for name in ("indices", "values")),
            "peak_mb": peak_mb(),
            "worker": os.getpid(),
            "opened": f"{os.getpid()} {id(self.model.open())}",
        }
        with Path(self.stamps, f"{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(stamp) + "\n")
        return made


def read_stamps(folder: str) -> list[Stamp]:
    """The stamps of all workers."""
    return [json.loads(line) for path in Path(folder).iterdir() for line in path.read_text().splitlines()]


def run_process(job: dict[str, Any], texts: list[str], _folder: str) -> dict[str, Any]:
    """One process with as many threads as workers."""
    started = time.time()
    expander = Expander(job["model"], threads=job["workers"])
    stamps: list[Stamp] = [
        {"at": time.time(), "rows": 1, "bytes": 8 * len(vector), "peak_mb": 0.0, "worker": 0, "opened": ""}
        for vector in expander.stream(iter(texts))
    ]
    stamps[-1]["peak_mb"] = peak_mb()
    return figures(started, stamps)


def run_ray(job: dict[str, Any], texts: list[str], folder: str) -> dict[str, Any]:
    """Actors of Ray Data on one node, which has one more CPU on paper for the tasks that read."""
    import numpy as np
    import pyarrow as pa
    import ray
    import ray.data

    from spladerunner.distributed import ray as engine

    ray.init(
        "local",
        num_cpus=job["workers"] + 1,
        object_store_memory=300 << 20,
        include_dashboard=False,
        log_to_driver=False,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = pa.table({"_id": [str(at) for at in range(len(texts))], "text": texts})
    blocks = [rows.slice(at, 2 * BATCH) for at in range(0, len(texts), 2 * BATCH)]
    with patch.object(engine, "TableEncoder", partial(StampedEncoder, stamps=folder)):
        started = time.time()
        vectors = engine.encode(
            ray.data.from_arrow(blocks),
            Expander(job["model"]),
            batch_size=BATCH,
            compute=ray.data.ActorPoolStrategy(size=job["workers"]),
        )
    count = vectors.materialize().count()
    if count != len(texts):
        raise RuntimeError(f"{count} vectors of {len(texts)} texts")
    block = np.frombuffer(os.urandom(BLOCK), np.uint8)
    begun = time.perf_counter()
    for _ in range(4):
        ray.get(ray.put(block))
    stored = 4 * BLOCK / (time.perf_counter() - begun)
    return {**figures(started, read_stamps(folder)), "stored": stored}


def run_spark(job: dict[str, Any], texts: list[str], folder: str) -> dict[str, Any]:
    """Python workers of Spark, one a core of a local session."""
    from pyspark.sql import SparkSession

    from spladerunner.distributed import spark as engine

    session = (
        SparkSession.builder.master(f"local[{job['workers']}]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", str(BATCH))
        .getOrCreate()
    )
    rows = [(str(at), text) for at, text in enumerate(texts)]
    frame = session.createDataFrame(rows, "_id string, text string").repartition(8 * job["workers"]).cache()
    frame.count()
    with patch.object(engine, "TableEncoder", partial(StampedEncoder, stamps=folder)):
        started = time.time()
        vectors = engine.encode(frame, Expander(job["model"]))
    vectors.write.format("noop").mode("overwrite").save()  # all columns come to the JVM, and end there
    session.stop()
    return figures(started, read_stamps(folder))


def figures(started: float, stamps: list[Stamp]) -> dict[str, Any]:
    """Documents a second from the first batch to the last, seconds to the first, memory a worker, models."""
    times = [stamp["at"] for stamp in stamps]
    first = min(stamps, key=lambda stamp: stamp["at"])
    rows = sum(stamp["rows"] for stamp in stamps)
    return {
        "docs_per_second": (rows - first["rows"]) / (max(times) - min(times)),
        "seconds_to_first_row": min(times) - started,
        "peak_mb": max(stamp["peak_mb"] for stamp in stamps),
        "bytes_per_vector": sum(stamp["bytes"] for stamp in stamps) / rows,
        "workers": len({stamp["worker"] for stamp in stamps}),
        "models_opened": len({stamp["opened"] for stamp in stamps}),
    }


RUNS = {"process": run_process, "ray": run_ray, "spark": run_spark}


def main() -> None:
    """Runs the job of the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks/scale_jobs.py", description=__doc__)
    parser.add_argument("job", metavar="JOB", type=json.loads)
    job = parser.parse_args().job
    texts = json.loads(Path(job["texts"]).read_text(encoding="utf-8"))["typical"] * job["copies"]
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(RUNS[job["system"]](job, texts, folder)))


if __name__ == "__main__":
    main()
