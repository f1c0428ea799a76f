"""Origin of a record: the command, the commit, the machine and the versions of packages that made it."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
STARTED = time.monotonic()

FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
"""Flags of the processor that decide how fast products of matrices are."""

PACKAGES = (
    "bm25s",
    "embed-anything",
    "fastembed",
    "huggingface_hub",
    "nncf",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "optimum",
    "optimum-intel",
    "optimum-onnx",
    "pyarrow",
    "pyspark",
    "ray",
    "sentence-transformers",
    "spladerunner",
    "tokenizers",
    "torch",
    "transformers",
)

_VERSIONS_CODE = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def origin(environments: Iterable[Path]) -> dict[str, Any]:
    """Origin of what this process measured. environments: Pythons of the systems that it ran."""
    return {
        "command": command(),
        **commit(),
        "time": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - STARTED),
        "machine": machine(),
        "versions": {python.parents[1].name: versions(python) for python in (Path(sys.executable), *environments)},
    }


def command() -> str:
    """The command of this process. Folders are told by their names alone."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    arguments = [Path(each).name if Path(each).is_absolute() else each for each in sys.argv[1:]]
    return shlex.join(["python", "-m", module.name if module else Path(sys.argv[0]).name, *arguments])


def commit() -> dict[str, Any]:
    """Commit of this tree, and True if the tree was clean; None for both without a repository."""

    def git(*arguments: str) -> str | None:
        done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    found, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--", ":!benchmarks/*results.json")
    return {"commit": found, "clean": None if changes is None else not changes}


def machine() -> dict[str, Any]:
    """Processor, the flags that matter, cores, memory, kernel and Python."""
    name, flags = platform.processor() or platform.machine(), ""
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        lines = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        found = {key.strip(): value.strip() for key, value in lines.items()}
        name, flags = found.get("model name", name), found.get("flags", "")
    return {
        "processor": name,
        "flags": [flag for flag in FLAGS if flag in flags.split()],
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def describe(machine: dict[str, Any]) -> str:
    """A machine in words.

    >>> describe({"processor": "AMD EPYC", "flags": ["avx2", "avx512_vnni"], "cores": 2})
    'AMD EPYC with AVX2, AVX512_VNNI, 2 cores'
    """
    flags = ", ".join(flag.upper() for flag in machine["flags"])
    return f"{machine['processor']}{' with ' if flags else ''}{flags}, {machine['cores']} cores"


def versions(python: Path) -> dict[str, str]:
    """Versions of PACKAGES in the environment of a Python."""
    done = subprocess.run([str(python), "-c", _VERSIONS_CODE, *PACKAGES], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found
