"""Virtual environments: one for each system that is measured, so that none sees the packages of another."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]

# torch comes first: this release has no CUDA, and a later requirement would bring one that has.
INSTALLS: dict[str, list[list[str]]] = {
    "spladerunner": [[str(PROJECT)]],
    "fastembed": [["fastembed"]],
    "spladerunner-0.1": [["SPLADERunner==0.1.6"]],
    "transformers-5": [["torch==2.13.0"], [f"{PROJECT}[export-transformers-5]"]],
    # optimum, for ONNX and OpenVINO, holds transformers below 5 and sentence-transformers below 6.
    "sentence-transformers": [
        ["torch==2.13.0"],
        ["sentence-transformers[onnx,openvino]<6", "datasets<5", "huggingface_hub<1"],
    ],
    "sentence-transformers-6": [["torch==2.13.0"], ["sentence-transformers==6.2.*"]],
    "embed-anything": [["embed-anything"]],
    # For machines with an NVIDIA card. onnxruntime-gpu takes the place of onnxruntime, so dependencies are named.
    "spladerunner-gpu": [
        ["onnxruntime-gpu[cuda,cudnn]", "tokenizers", "numpy", "huggingface_hub", "tqdm", "nvidia-ml-py"],
        ["--no-deps", str(PROJECT)],
    ],
    "fastembed-gpu": [["fastembed-gpu"], ["onnxruntime-gpu[cuda,cudnn]"]],
    "sentence-transformers-gpu": [["torch"], ["sentence-transformers"]],
    "sentence-transformers-flash-gpu": [
        ["torch", "setuptools", "wheel", "packaging", "ninja"],
        ["sentence-transformers"],
        ["--no-build-isolation", "flash-attn"],  # is built for the torch that is installed
    ],
}
"""Requirements of each environment, one list for each run of pip."""

USED: list[Path] = []
"""Pythons that this process asked for; the records that it saves tell the versions of their packages."""


def python_of(folder: Path, name: str) -> Path:
    """Python of an environment below `folder`, which is created on first use."""
    environment = folder / "environments" / name
    python, installed = environment / "bin" / "python", environment / "installed"
    if not installed.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
        for requirements in INSTALLS[name]:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
        installed.touch()
    if python not in USED:
        USED.append(python)
    return python


@cache
def own_python(folder: Path) -> Path:
    """Python of the environment with spladerunner, reinstalled from this tree once in each process."""
    return _reinstalled(folder, "spladerunner")


@cache
def gpu_python(folder: Path) -> Path:
    """The same with onnxruntime-gpu."""
    return _reinstalled(folder, "spladerunner-gpu")


def clusters_python() -> Path:
    """Python of the environment of `make clusters`, with Ray and Spark and this tree. Raises FileNotFoundError."""
    python = PROJECT / ".venv-clusters" / "bin" / "python"
    if not python.exists():
        raise FileNotFoundError(f"{python} does not exist: run make bench-scale, which makes it.")
    USED.append(python)
    return python


def _reinstalled(folder: Path, name: str) -> Path:
    shutil.rmtree(PROJECT / "build", ignore_errors=True)  # setuptools would install stale files from there
    python = python_of(folder, name)
    again = ["install", "--quiet", "--force-reinstall", "--no-deps", str(PROJECT)]
    subprocess.run([python, "-m", "pip", *again], check=True)
    return python
