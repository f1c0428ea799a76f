"""What every benchmark here needs: fresh processes in turn, medians with their spread, and where results are kept."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
ROUNDS = 5


def run(python: Path, job: Mapping[str, Any], *, timeout: float = 900) -> dict[str, Any]:
    """One measurement in a fresh process; {"failed": why} where it failed."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true", "ORT_DISABLE_TELEMETRY": "1"}
    environment.pop("PYTHONPATH", None)  # each system is to be that of its environment
    command = [str(python), str(HERE / "systems.py"), json.dumps(job)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {timeout:.0f} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"failed": lines[-1].replace(f"{HERE.parent}/", "")[:200]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def in_turn(measurements: Mapping[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Each measurement once a round, in turn, so that a machine that changes its pace changes it for all."""
    found: dict[str, list[float]] = {name: [] for name in measurements}
    for _ in range(rounds):
        for name, measurement in measurements.items():
            found[name].append(measurement())
    return found


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> float:
    """The largest less the smallest, as a part of the median."""
    return (max(values) - min(values)) / statistics.median(values)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def machine() -> str:
    """The processor, its cores, and the day."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
        flags = next((line for line in lines if line.startswith("flags")), "")
        name += " with AVX-512 VNNI" if "avx512_vnni" in flags else " with AVX-VNNI" if "avx_vnni" in flags else ""
    return f"{name}, {len(os.sched_getaffinity(0))} cores, {dt.date.today().isoformat()}"


def keep(name: str, result: object) -> None:
    """Puts a result into the file that the plots are drawn from."""
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    results[name] = {"machine": machine(), "result": result}
    written = RESULTS.with_suffix(".tmp")
    written.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    written.replace(RESULTS)
