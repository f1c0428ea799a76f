"""Counts the cores that this process may use, by its affinity and its CPU quota.

A container with a quota sees all cores of its host. With a thread for each of them, the quota of a period is used up
early, and all threads wait for the next (huggingface/text-embeddings-inference#170).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_MEMBERSHIP = Path("/proc/self/cgroup")
_MOUNTED = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """The number of cores that this process may use, at least 1; a fraction of a core counts as one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, cpu_quota())))


def cpu_quota(membership: Path = _MEMBERSHIP, mounted: Path = _MOUNTED) -> float:
    """Time that Linux control groups grant this process, in cores; infinite without a limit.

    The limit of a group applies to all groups below it, so the lowest on the path to the root counts. In a container
    the path may begin above the mounted group, which then is the process's.
    (Linux: Documentation/admin-guide/cgroup-v2.rst, cpu.max; Documentation/scheduler/sched-bwc.rst, cpu.cfs_quota_us.)
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return math.inf  # another operating system
    limits = [math.inf]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            hierarchy, quota_of = mounted, _quota
        elif "cpu" in controllers.split(","):
            hierarchy, quota_of = mounted / controllers, _quota_of_version_1
        else:
            continue
        limits += [quota_of(group) for group in _upwards(hierarchy, path)]
    return min(limits)


def _upwards(hierarchy: Path, path: str) -> Iterator[Path]:
    group = Path(os.path.normpath(hierarchy / path.lstrip("/")))
    while group != hierarchy and hierarchy in group.parents:
        yield group
        group = group.parent
    yield hierarchy


def _quota(group: Path) -> float:
    try:
        limit, period = (group / "cpu.max").read_text().split()
        return math.inf if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        return math.inf


def _quota_of_version_1(group: Path) -> float:
    try:
        limit, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return limit / period if limit > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
