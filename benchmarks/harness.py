"""Shared parts of every benchmark: command line, fresh processes, rounds, tables, and the file of results."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from spladerunner.atomic_file import write_atomically

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
LAB_RESULTS = HERE / "lab" / "results.json"
ROUNDS = 5


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """Parser of SHARED and FOLDER, the arguments of every benchmark."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("shared", metavar="SHARED", type=_folder, help="folder with data/ and tiny-en/")
    parser.add_argument(
        "folder", metavar="FOLDER", type=_folder, help="working folder for models and environments, kept between runs"
    )
    return parser


def _folder(text: str) -> Path:
    return Path(text).resolve()  # jobs run in processes with another working directory


def run_job(python: Path, job: Mapping[str, Any], *, timeout: float = 900) -> dict[str, Any]:
    """Runs a job of systems.py in a fresh process, and returns its figures, or {"failed": reason}."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true", "ORT_DISABLE_TELEMETRY": "1"}
    environment.pop("PYTHONPATH", None)  # packages come from the environment of the system alone
    command = [str(python), str(HERE / "systems.py"), json.dumps(job)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {timeout:.0f} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"failed": lines[-1].replace(f"{HERE.parent}/", "")[:200]}
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock time of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def in_rounds(measurements: Mapping[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Takes each measurement once a round, in turn, so that a drift of the machine's speed affects all alike."""
    found: dict[str, list[float]] = {name: [] for name in measurements}
    for _ in range(rounds):
        for name, measurement in measurements.items():
            found[name].append(measurement())
    return found


def spread(values: Sequence[float]) -> float:
    """Largest minus smallest value, divided by the median."""
    return (max(values) - min(values)) / statistics.median(values)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Table in Markdown. tabulate would pad every cell, so that one changed figure changes all lines of a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def machine() -> str:
    """Processor, number of cores, and today's date."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
        flags = next((line for line in lines if line.startswith("flags")), "")
        name += " with AVX-512 VNNI" if "avx512_vnni" in flags else " with AVX-VNNI" if "avx_vnni" in flags else ""
    return f"{name}, {len(os.sched_getaffinity(0))} cores, {dt.date.today().isoformat()}"


def save_result(name: str, result: object, path: Path = RESULTS) -> None:
    """Adds a record to a file of results, with the machine and the date; a record of that name is replaced."""
    records = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    records[name] = {"machine": machine(), "result": result}
    write_records(records, path)


def write_records(records: Mapping[str, Any], path: Path) -> None:
    """Writes records as JSON, sorted by name."""
    write_atomically(path, json.dumps(records, indent=1, sort_keys=True) + "\n")
