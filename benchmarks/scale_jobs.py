"""Runs one measurement of benchmarks/scale.py in a fresh process: python scale_jobs.py JOB prints its figures as JSON.

A job has system, workers, texts, copies, model. Each worker says, for each of its batches, when it was done.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

BATCH = 32
WARM_UP = 64
BLOCK = 32 << 20

Row = dict[str, Any]


class StampedEncoder:
    """What encode() maps over batches, and a column with when, where and in how much memory a batch was done."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder

    def __call__(self, batch: Any) -> Any:
        """Encodes an Arrow table, and gives one row for it."""
        import pyarrow as pa

        expander = self._encoder.model.open()
        found = self._encoder.table(batch)
        size = sum(found.column(name).nbytes for name in ("indices", "values"))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        stamp = {"at": time.time(), "rows": found.num_rows, "bytes": size, "peak_mb": peak}
        return pa.Table.from_pylist([{**stamp, "worker": f"{os.getpid()}", "opened": f"{os.getpid()} {id(expander)}"}])

    def batches(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The same for Arrow record batches."""
        import pyarrow as pa

        for batch in batches:
            yield from self(pa.Table.from_batches([batch])).to_batches()


SCHEMA = "at double, rows long, bytes long, peak_mb double, worker string, opened string"


def run_process(job: dict[str, Any], texts: list[str]) -> tuple[float, list[Row]]:
    """One process with as many threads as workers."""
    from spladerunner import Expander

    expander = Expander(job["model"], threads=job["workers"])
    expander.encode(texts[:WARM_UP])
    started = time.time()
    rows: list[Row] = [
        {"at": time.time(), "rows": 1, "bytes": 8 * len(vector), "worker": "", "opened": ""}
        for vector in expander.stream(iter(texts))
    ]
    rows[-1]["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return started, rows


def run_ray(job: dict[str, Any], texts: list[str]) -> tuple[float, list[Row]]:
    """Actors of Ray Data on one node."""
    import numpy as np
    import ray
    import ray.data

    from spladerunner import Expander
    from spladerunner.distributed.worker import TableEncoder, WorkerModel

    ray.init(num_cpus=job["workers"], object_store_memory=150 << 20, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    items = [{"_id": str(at), "text": text} for at, text in enumerate(texts)]
    dataset = ray.data.from_items(items, override_num_blocks=max(1, len(items) // BATCH))
    encoder = TableEncoder(WorkerModel.of(Expander(job["model"]), 1))
    started = time.time()
    stamps = dataset.map_batches(
        StampedEncoder,
        fn_constructor_args=(encoder,),
        batch_format="pyarrow",
        batch_size=BATCH,
        compute=ray.data.ActorPoolStrategy(size=job["workers"]),
        num_cpus=1,
    ).take_all()
    block = np.frombuffer(os.urandom(BLOCK), np.uint8)
    begun = time.perf_counter()
    for _ in range(4):
        ray.get(ray.put(block))
    stamps[-1]["stored"] = 4 * BLOCK / (time.perf_counter() - begun)
    return started, stamps


def run_spark(job: dict[str, Any], texts: list[str]) -> tuple[float, list[Row]]:
    """Python workers of Spark, one a core of a local session."""
    from pyspark.sql import SparkSession

    from spladerunner import Expander
    from spladerunner.distributed.worker import TableEncoder, WorkerModel

    session = (
        SparkSession.builder.master(f"local[{job['workers']}]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", str(BATCH))
        .getOrCreate()
    )
    rows = [(str(at), text) for at, text in enumerate(texts)]
    frame = session.createDataFrame(rows, "_id string, text string").repartition(4 * job["workers"]).cache()
    frame.count()
    encoder = StampedEncoder(TableEncoder(WorkerModel.of(Expander(job["model"]), 1)))
    started = time.time()
    stamps = [row.asDict() for row in frame.mapInArrow(encoder.batches, SCHEMA).collect()]
    session.stop()
    return started, stamps


def figures(started: float, stamps: list[Row]) -> dict[str, Any]:
    """Documents a second from the first batch to the last, seconds to the first, memory, models, the object store."""
    times = [stamp["at"] for stamp in stamps]
    first = min(stamps, key=lambda stamp: stamp["at"])
    rows = sum(stamp["rows"] for stamp in stamps)
    return {
        "docs_per_second": (rows - first["rows"]) / (max(times) - min(times)),
        "seconds_to_first_row": min(times) - started,
        "peak_mb": max(stamp.get("peak_mb", 0.0) for stamp in stamps),
        "bytes_per_vector": sum(stamp["bytes"] for stamp in stamps) / rows,
        "workers": len({stamp["worker"] for stamp in stamps}),
        "models_opened": len({stamp["opened"] for stamp in stamps}),
        "stored": max(stamp.get("stored", 0.0) for stamp in stamps),
    }


RUNS = {"process": run_process, "ray": run_ray, "spark": run_spark}


def main() -> None:
    """Runs the job of the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks/scale_jobs.py", description=__doc__)
    parser.add_argument("job", metavar="JOB", type=json.loads)
    job = parser.parse_args().job
    texts = json.loads(Path(job["texts"]).read_text(encoding="utf-8"))["typical"] * job["copies"]
    print(json.dumps(figures(*RUNS[job["system"]](job, texts))))


if __name__ == "__main__":
    main()
