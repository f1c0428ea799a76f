from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spladerunner.inference import cpu_count
from spladerunner.inference.cpu_count import available_cores, cpu_quota
from tests.control_group import control_group


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_cores_are_those_of_the_affinity() -> None:
    """In a process of its own, on a machine that seems to have 64 cores."""
    code = (
        "import math, os\n"
        "from spladerunner.inference import cpu_count\n"
        "os.cpu_count, cpu_count.cpu_quota = lambda: 64, lambda: math.inf\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "print(cpu_count.available_cores())\n"
        "del os.sched_getaffinity\n"
        "print(cpu_count.available_cores())\n"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["1", "64"]


@pytest.mark.parametrize(("quota", "expected"), [(0.2, 1), (1.0, 1), (1.5, 2), (3.0, 3), (99.0, 8)])
def test_a_part_of_a_core_counts_as_one(monkeypatch: pytest.MonkeyPatch, quota: float, expected: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(cpu_count, "cpu_quota", lambda: quota)
    assert available_cores() == expected


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ({}, math.inf),
        ({"a/b": "max 100000"}, math.inf),
        ({"a/b": "150000 100000"}, 1.5),
        ({"a": "200000 100000", "a/b": "max 100000"}, 2.0),  # the limit of a group holds for those below it
        ({"a": "50000 100000", "a/b": "400000 100000"}, 0.5),
        ({".": "300000 100000"}, 3.0),  # a container sees its own group as the root
        ({"a/b": "what is this"}, math.inf),
        ({"a/b/c": "10000 100000"}, math.inf),  # of another process
    ],
)
def test_the_least_limit_on_the_way_up_counts(tmp_path: Path, groups: dict[str, str], expected: float) -> None:
    write(tmp_path / "membership", "0::/a/b\n")
    for group, limit in groups.items():
        write(tmp_path / "mounted" / group / "cpu.max", limit + "\n")
    assert cpu_quota(tmp_path / "membership", tmp_path / "mounted") == expected


@pytest.mark.parametrize(("quota", "expected"), [("250000", 2.5), ("-1", math.inf), ("0", math.inf)])
def test_the_first_version_of_control_groups(tmp_path: Path, quota: str, expected: float) -> None:
    write(tmp_path / "membership", "5:memory:/x\n4:cpu,cpuacct:/docker/abc\n0::/\n")
    group = tmp_path / "mounted" / "cpu,cpuacct"
    write(group / "cpu.cfs_quota_us", quota + "\n")
    write(group / "cpu.cfs_period_us", "100000\n")
    assert cpu_quota(tmp_path / "membership", tmp_path / "mounted") == expected


def test_no_control_groups_no_limit(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "absent", tmp_path) == math.inf


def test_a_path_out_of_the_hierarchy_ends_there(tmp_path: Path) -> None:
    write(tmp_path / "membership", "0::/../../elsewhere\n")
    assert cpu_quota(tmp_path / "membership", tmp_path / "mounted") == math.inf


@pytest.mark.slow
def test_a_real_quota_is_the_default_of_threads() -> None:
    with control_group("cpu", {"cpu.max": "100000 100000"}, {"cpu.cfs_quota_us": "100000"}) as enter:
        code = f"{enter}\nfrom spladerunner import Expander; print(repr(Expander()))"
        assert "threads=1)" in subprocess.check_output([sys.executable, "-c", code], text=True)
