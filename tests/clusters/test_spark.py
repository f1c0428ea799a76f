"""Spark in local-cluster mode, whose executors are processes, and Spark Connect."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from spladerunner import Expander, InputError
from spladerunner.distributed.spark import encode
from spladerunner.distributed.worker import WorkerModel
from tests.clusters.conftest import Job, assert_same_folder
from tests.clusters.processes import SECONDS, kill_one, running, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")  # PySpark on itself
SETTINGS = {
    "spark.master": "local-cluster[2,1,512]",
    "spark.driver.memory": "512m",
    "spark.executor.memory": "512m",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "50",
}
SCHEMA = "_id string, title string, text string, n long"


@pytest.fixture(scope="module")
def session() -> Iterator[SparkSession]:
    builder = SparkSession.builder
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    started = builder.getOrCreate()
    yield started
    started.stop()


def frame(session: SparkSession, rows: list[dict[str, object]]) -> DataFrame:
    return session.createDataFrame([tuple(row.values()) for row in rows], SCHEMA)


def assert_vectors_of_one_process(frame: DataFrame, job: Job, count: int) -> None:
    rows = sorted((row.asDict() for row in frame.collect()), key=lambda row: row["n"])
    assert [{name: row[name] for name in ("_id", "title", "text", "n")} for row in rows] == job.rows(count)
    for row, vector in zip(rows, job.vectors(count), strict=True):
        assert row["indices"] == vector.indices.tolist()
        assert np.asarray(row["values"], np.float32).tobytes() == vector.values.tobytes()


def test_a_dataframe_has_the_vectors_of_one_process(session: SparkSession, job: Job) -> None:
    made = encode(frame(session, job.rows(600)).repartition(4), Expander(job.bundle))
    assert [field.simpleString() for field in made.schema.fields[4:]] == ["indices:array<int>", "values:array<float>"]
    assert_vectors_of_one_process(made, job, 600)


def test_a_bad_row_ends_the_run_with_its_id_or_has_its_reason_in_a_column(session: SparkSession, job: Job) -> None:
    rows: list[dict[str, object]] = [
        {"_id": "good", "title": None, "text": "the cat", "n": 0},
        {"_id": "bad", "title": None, "text": None, "n": 1},
    ]
    expander = Expander(job.bundle)
    with pytest.raises(Exception, match="row with the _id 'bad' is bad: no text: 'text' is missing or null"):
        encode(frame(session, rows), expander).collect()
    found = {row["_id"]: row for row in encode(frame(session, rows), expander, problem="p", format="json").collect()}
    assert found["good"].p is None and found["bad"].vector is None
    assert found["bad"].p == "no text: 'text' is missing or null, not a string"
    assert found["good"].vector == expander.expand("the cat")[0]
    with pytest.raises(InputError, match="no column 'text' among"):
        encode(frame(session, rows).drop("text"), expander)


def test_two_versions_of_a_model_in_one_run_are_an_error(
    session: SparkSession, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = WorkerModel.of

    def of_the_driver(expander: Expander, threads: int) -> WorkerModel:
        return replace(other(expander, threads), fingerprint="0" * 64)

    monkeypatch.setattr(WorkerModel, "of", of_the_driver)
    with pytest.raises(Exception, match="would make other vectors than the driver: it has fingerprint"):
        encode(frame(session, job.rows(10)), Expander(job.bundle)).collect()


def test_a_worker_opens_the_model_once_for_many_batches_and_tasks(session: SparkSession, job: Job) -> None:
    """Two executors of one core: each keeps one Python worker, for 12 tasks of 2 batches."""
    model = WorkerModel.of(Expander(job.bundle), 1)

    def opened(batches):  # type: ignore[no-untyped-def]
        import pyarrow as pa

        for batch in batches:
            yield pa.RecordBatch.from_pydict({"at": [f"{os.getpid()} {id(model_of_worker().open())}"] * batch.num_rows})

    def model_of_worker(model: WorkerModel = model) -> WorkerModel:
        return model

    found = session.range(0, 1200, 1, 12).mapInArrow(opened, "at string").distinct().collect()
    assert 1 <= len(found) <= 2


def test_the_command_writes_the_folder_of_one_process_though_an_executor_and_a_worker_are_killed(
    job: Job, tmp_path: Path
) -> None:
    output = tmp_path / "parts"
    settings = " ".join(f"--conf {name}={value}" for name, value in SETTINGS.items())
    environment = {**os.environ, "PYSPARK_SUBMIT_ARGS": f"{settings} pyspark-shell"}
    with running(job.command("spark", output), environment) as process:

        def some(count: int) -> bool:
            assert process.poll() is None, process.communicate()[1]
            return len(list(output.glob("part-*"))) >= count

        wait_until(lambda: some(2))
        assert kill_one(process.pid, "pyspark.daemon")
        wait_until(lambda: some(4))
        assert kill_one(process.pid, "CoarseGrainedExecutorBackend")
        assert len(list(output.glob("part-*"))) < job.parts
        error = process.communicate(timeout=SECONDS)[1]
        assert process.returncode == 0, error
    assert_same_folder(output, job.expected)


CONNECT = """
import sys
from pyspark.sql import SparkSession
from spladerunner import Expander
from spladerunner.distributed.spark import encode
session = SparkSession.builder.remote("local[1]").getOrCreate()
assert "connect" in type(session).__module__
frame = session.createDataFrame([("a", "the cat"), ("b", "the dog")], "_id string, text string")
expander = Expander(sys.argv[1])
rows = {row["_id"]: row for row in encode(frame, expander).collect()}
for name, text in (("a", "the cat"), ("b", "the dog")):
    (vector,) = expander.encode(text)
    assert rows[name].indices == vector.indices.tolist() and rows[name]["values"] == vector.values.tolist()
print("same")
session.stop()
"""


def test_spark_connect_gives_the_same_vectors(job: Job) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYSPARK_SUBMIT_ARGS"}
    done = subprocess.run(
        [sys.executable, "-c", CONNECT, str(job.bundle)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.stdout.splitlines()[-1:] == ["same"], done.stderr
