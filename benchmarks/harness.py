"""Shared parts of every benchmark: command line, fresh processes, rounds, tables, and the file of results."""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import pace
from benchmarks.environments import USED
from benchmarks.origin import describe, origin
from benchmarks.origin import machine as this_machine
from spladerunner.atomic_file import write_atomically

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
LAB_RESULTS = HERE / "lab" / "results.json"
ROUNDS = 5
REPEATED = 2
"""Rounds at most that are measured again because the machine was disturbed."""

Sample = TypeVar("Sample")


@dataclass(frozen=True)
class Round:
    """A round: the slower of the paces before and after it, and whether it was kept."""

    pace: float
    kept: bool


ROUNDS_OF_PROCESS: list[Round] = []
"""Every round of this process, kept or not, for the record that it saves."""


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


def environment_of_jobs() -> dict[str, str]:
    """Environment of the processes of systems.py: offline, and with the packages of their own Python alone."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true", "ORT_DISABLE_TELEMETRY": "1"}
    environment.pop("PYTHONPATH", None)
    return environment


def reason(errors: str, status: int) -> str:
    """Last line of standard error of a process that failed, without folders of this machine."""
    lines = errors.strip().splitlines() or [f"exit status {status}"]
    return re.sub(r"(?<![\w.])/(?:[\w.+-]+/)+", "", lines[-1])[:200]


def run_job(python: Path, job: Mapping[str, Any], *, timeout: float = 900) -> dict[str, Any]:
    """Runs a job of systems.py in a fresh process, and returns its figures, or {"failed": reason}."""
    command = [str(python), str(HERE / "systems.py"), json.dumps(job)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=environment_of_jobs(), check=False
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {timeout:.0f} s"}
    if done.returncode:
        return {"failed": reason(done.stderr, done.returncode)}
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock time of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def in_rounds(measurements: Mapping[str, Callable[[], Sample]], rounds: int = ROUNDS) -> dict[str, list[Sample]]:
    """Samples of each measurement, taken once a round, in turn, so that a drift of the machine affects all alike.

    The pace of the machine is measured before, between and after rounds. While fewer than `rounds` were quiet, up to
    REPEATED more are measured; the quietest are kept.
    """
    samples: list[dict[str, Sample]] = []
    paces = [pace.measure()]
    beside: list[float] = []
    for _ in range(rounds + REPEATED):
        samples.append({name: measurement() for name, measurement in measurements.items()})
        paces.append(pace.measure())
        beside.append(max(paces[-2:]))
        if sum(not pace.disturbed(each, min(paces)) for each in beside) >= rounds:
            break
    fastest = min(paces)
    quietest = sorted(range(len(beside)), key=lambda at: beside[at] if pace.disturbed(beside[at], fastest) else 0)
    kept = sorted(quietest[:rounds])
    ROUNDS_OF_PROCESS.extend(Round(each, at in kept) for at, each in enumerate(beside))
    return {name: [samples[at][name] for at in kept] for name in measurements}


def spread(values: Sequence[float]) -> float:
    """Largest minus smallest value, divided by the median."""
    return (max(values) - min(values)) / statistics.median(values)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Table in Markdown. tabulate would pad every cell, so that one changed figure changes all lines of a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def machine() -> str:
    """The machine of this process in words."""
    return describe(this_machine())


def save_result(name: str, result: object, path: Path = RESULTS) -> None:
    """Adds a record to a file of results: raw samples and their origin. A record of that name is replaced."""
    records = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    rounds = [[round(each.pace, 4), each.kept] for each in ROUNDS_OF_PROCESS]
    ROUNDS_OF_PROCESS.clear()
    records[name] = {**origin(USED), "pace": {"limit": pace.LIMIT, "rounds": rounds}, "result": result}
    write_records(records, path)


def write_records(records: Mapping[str, Any], path: Path) -> None:
    """Writes records as JSON, sorted by name."""
    write_atomically(path, json.dumps(records, indent=1, sort_keys=True) + "\n")
