"""Ray Data on a cluster of three node processes: one that drives, and two that encode."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import ray.data
from ray.cluster_utils import Cluster

from spladerunner import Expander, InputError
from spladerunner.distributed.ray import encode
from spladerunner.distributed.worker import WorkerModel
from tests.clusters.conftest import Job, assert_same_folder
from tests.clusters.processes import SECONDS, kill_one, running, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray on itself
MEMORY = 100 << 20  # of the object store of a node


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    started = Cluster()
    add_node(started, num_cpus=0, include_dashboard=False)
    for _ in range(2):
        add_node(started)
    ray.init(address=started.address, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield started
    ray.shutdown()
    started.shutdown()


def add_node(cluster: Cluster, num_cpus: int = 1, **options: object) -> Any:
    """Starts a node; Ray gives up after 30 seconds, which are few on a busy machine."""
    for tries_left in (2, 1, 0):
        try:
            return cluster.add_node(num_cpus=num_cpus, object_store_memory=MEMORY, include_log_monitor=False, **options)
        except Exception:
            if not tries_left:
                raise
    raise AssertionError


def raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def test_a_dataset_has_the_vectors_of_one_process_though_a_worker_is_killed(cluster: Cluster, job: Job) -> None:
    count = 1200
    dataset = ray.data.from_items(job.rows(count), override_num_blocks=12)
    killed = False
    rows = []
    for row in encode(dataset, Expander(job.bundle), batch_size=50).iter_rows():
        if not killed:
            killed = any(kill_one(raylet(node), "TableActor") for node in cluster.list_all_nodes())
        rows.append(row)
    assert killed
    rows.sort(key=lambda row: row["n"])
    assert [{name: row[name] for name in ("_id", "title", "text", "n")} for row in rows] == job.rows(count)
    for row, vector in zip(rows, job.vectors(count), strict=True):
        assert np.asarray(row["indices"]).tolist() == vector.indices.tolist()
        assert np.asarray(row["values"], np.float32).tobytes() == vector.values.tobytes()


def test_a_bad_row_ends_the_run_with_its_id_or_has_its_reason_in_a_column(cluster: Cluster, job: Job) -> None:
    rows = [{"_id": "good", "text": "the cat"}, {"_id": "bad", "text": None}]
    dataset, expander = ray.data.from_items(rows, override_num_blocks=1), Expander(job.bundle)
    with pytest.raises(Exception, match="row with the _id 'bad' is bad: no text: 'text' is missing or null"):
        encode(dataset, expander).take_all()
    found = {row["_id"]: row for row in encode(dataset, expander, problem="problem", format="json").take_all()}
    assert found["good"]["problem"] is None and found["bad"]["vector"] is None
    assert found["bad"]["problem"] == "no text: 'text' is missing or null, not a string"
    assert dict(found["good"]["vector"]) == expander.expand("the cat")[0]


def test_two_versions_of_a_model_in_one_run_are_an_error(
    cluster: Cluster, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = WorkerModel.of

    def of_the_driver(expander: Expander, threads: int) -> WorkerModel:
        return replace(other(expander, threads), fingerprint="0" * 64)

    monkeypatch.setattr(WorkerModel, "of", of_the_driver)
    dataset = ray.data.from_items(job.rows(10), override_num_blocks=1)
    with pytest.raises(Exception, match="would make other vectors than the driver: it has fingerprint"):
        encode(dataset, Expander(job.bundle)).take_all()


def test_a_missing_column_is_an_error(cluster: Cluster, job: Job) -> None:
    with pytest.raises(Exception, match="no column 'text' among"):
        encode(ray.data.from_items([{"_id": "a"}]), Expander(job.bundle)).take_all()
    assert issubclass(InputError, Exception)


def test_the_command_writes_the_folder_of_one_process_though_a_node_and_a_worker_are_killed(
    cluster: Cluster, job: Job, tmp_path: Path
) -> None:
    output = tmp_path / "parts"
    lost = add_node(cluster)
    environment = {**os.environ, "RAY_ADDRESS": cluster.address}
    with running(job.command("ray", output), environment) as process:

        def some(count: int) -> bool:
            assert process.poll() is None, process.communicate()[1]
            return len(list(output.glob("part-*"))) >= count

        wait_until(lambda: some(2))
        os.kill(raylet(lost), signal.SIGKILL)
        wait_until(lambda: some(4))
        assert any(kill_one(raylet(node), "PartActor") for node in cluster.worker_nodes if node is not lost)
        assert len(list(output.glob("part-*"))) < job.parts
        error = process.communicate(timeout=SECONDS)[1]
        assert process.returncode == 0, error
    assert_same_folder(output, job.expected)

    (output / "_manifest.json").unlink()  # as if the driver had been killed at the end
    (output / "part-000003.parquet").unlink()
    times = {file.name: file.stat().st_mtime_ns for file in output.glob("part-*")}
    done = subprocess.run(job.command("ray", output), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same_folder(output, job.expected)
    assert all((output / name).stat().st_mtime_ns == time for name, time in times.items())
