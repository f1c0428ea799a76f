"""How many cores this process may use: of those that it may run on, as many as its CPU quota pays for.

A container with a quota sees all cores of its host. Threads for each of them would use the quota up within a part of
every period and then all stand still (huggingface/text-embeddings-inference#170).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_MEMBERSHIP = Path("/proc/self/cgroup")
_MOUNTED = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """The cores that this process may use, at least one; a part of a core counts as one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, cpu_quota())))


def cpu_quota(membership: Path = _MEMBERSHIP, mounted: Path = _MOUNTED) -> float:
    """The cores' worth of time that Linux control groups grant this process, infinite where they set no limit.

    The limit of a group holds for all groups below it, so the least on the way up counts. Within a container the way
    may begin above what is mounted there; then the mounted group itself is the process's own.
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
