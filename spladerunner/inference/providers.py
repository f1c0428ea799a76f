"""Execution providers of onnxruntime: which are available, and which gain from batches.

This module decides whether texts run in batches: on a GPU they do, if the graph pools inside; everywhere else each text
runs alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from spladerunner.inference.arena import ONNXRUNTIME_VERSION  # before onnxruntime, which reads the environment

# isort: split
import onnxruntime

from spladerunner.errors import ProviderError

Provider = str | tuple[str, Mapping[str, Any]]
"""Name of an execution provider, or its name and options: ("CUDAExecutionProvider", {"device_id": 1})."""

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

_GPU_DEVICES = {
    CUDA: "cuda",
    "TensorrtExecutionProvider": "cuda",
    "NvTensorRTRTXExecutionProvider": "cuda",
    "ROCMExecutionProvider": "cuda",  # onnxruntime names AMD's devices so, too
    "MIGraphXExecutionProvider": "cuda",
    "DmlExecutionProvider": "dml",
}
"""Providers that run on GPUs, and the names of their devices in onnxruntime's IOBinding."""

_REINSTALL = "pip uninstall --yes onnxruntime onnxruntime-gpu && pip install"


class Device(NamedTuple):
    """Memory of a GPU: its type and number in onnxruntime's IOBinding."""

    type: str
    id: int


def provider_name(provider: Provider) -> str:
    """The name without options."""
    return provider if isinstance(provider, str) else provider[0]


def check_providers(providers: Sequence[Provider]) -> None:
    """Raises ProviderError if none is named, or the installed onnxruntime lacks one of them."""
    available = onnxruntime.get_available_providers()
    names = [provider_name(each) for each in providers]
    missing = [name for name in names if name not in available]
    if missing or not names:
        raise ProviderError(
            f"providers={names} are not available: onnxruntime {ONNXRUNTIME_VERSION} has {available} here. "
            f"{_advice_for(missing)}",
            providers=missing,
            available=available,
        )


def _advice_for(missing: Sequence[str]) -> str:
    if not missing:
        return "Name one of these, or leave providers out."
    if unknown := [name for name in missing if name not in onnxruntime.get_all_providers()]:
        return f"No onnxruntime has {unknown}; the names are {onnxruntime.get_all_providers()}."
    packages = installed_packages()
    if len(packages) > 1:
        return mixed_up(packages)
    if CUDA in missing:
        return f"The package {' and '.join(packages)} has no CUDA: {_REINSTALL} 'onnxruntime-gpu[cuda,cudnn]'."
    return f"Install a build of onnxruntime that has {missing}."


def installed_packages() -> list[str]:
    """Names of the installed packages that provide the module onnxruntime."""
    (package, *_) = onnxruntime.__path__
    found = {path.name.split("-")[0].replace("_", "-") for path in Path(package).parent.glob("onnxruntime*.dist-info")}
    return sorted(found - {"onnxruntime-extensions", "onnxruntime-genai", "onnxruntime-tools"})


def mixed_up(packages: Sequence[str]) -> str:
    """Says why two packages of onnxruntime exclude each other, and how to keep one."""
    return (
        f"{' and '.join(packages)} are both installed and write the same files: the last one installed is in effect, "
        f"and removing one breaks the other. Keep one: {_REINSTALL} onnxruntime, or 'onnxruntime-gpu[cuda,cudnn]'."
    )


def device_of(providers: Sequence[Provider]) -> Device | None:
    """The GPU of the most preferred provider, None if that is not a GPU's."""
    first = providers[0]
    device = _GPU_DEVICES.get(provider_name(first))
    options: Mapping[str, Any] = {} if isinstance(first, str) else first[1]
    return Device(device, int(options.get("device_id", 0))) if device else None


def check_target(weight_type: str | None, providers: Sequence[Provider], name: str) -> None:
    """Raises ProviderError if a bundle was made for the other kind of device.

    weight_type: the manifest's, None for a folder without one. name: the model's.
    """
    gpu = device_of(providers) is not None
    first = provider_name(providers[0])
    if gpu and weight_type == "int8":
        raise ProviderError(
            f"{name} has int8 graphs, which are made for CPUs; {first} would run them several times slower than a CPU. "
            "Make a bundle for it: spladerunner export --for cuda. Or leave providers out.",
            providers=[first],
        )
    if first == CPU and not gpu and weight_type == "float16":
        raise ProviderError(
            f"{name} has float16 graphs, which are made for GPUs; a CPU has no float16 products. "
            "Give providers=['CUDAExecutionProvider'], or make a bundle for CPUs: spladerunner export.",
            providers=[first],
        )


def load_libraries(providers: Sequence[Provider]) -> str:
    """Loads the CUDA and cuDNN libraries of NVIDIA's packages, if a provider needs them and they are installed.

    Returns what onnxruntime says of libraries that it cannot load.
    """
    preload = getattr(onnxruntime, "preload_dlls", None)  # from onnxruntime 1.21 on
    if preload is None or all(_GPU_DEVICES.get(provider_name(each)) != "cuda" for each in providers):
        return ""
    said: list[str] = []
    names = vars(onnxruntime)
    names["print"] = said.append  # it would print where a command writes vectors; this leaves other threads' alone
    try:
        preload()
    finally:
        names.pop("print", None)
    return "; ".join(said)


def not_started(absent: Sequence[str], started: Sequence[str], path: object, cause: str = "") -> ProviderError:
    """The error for providers that this onnxruntime has and that did not start."""
    reason = ""
    if any(_GPU_DEVICES.get(name) == "cuda" for name in absent):
        from spladerunner.inference.cuda import cuda_state, diagnose  # CPUs start without

        reason = diagnose(cuda_state())
    said = f" onnxruntime says: {cause}" if cause else ""
    return ProviderError(
        f"{list(absent)} did not start: onnxruntime opened {path} with {list(started)} only. {reason}{said}".rstrip(),
        providers=absent,
        available=started,
    )


def check_installation() -> None:
    """Names a mix-up of onnxruntime's packages at import, instead of a failure later.

    Raises ImportError if the module onnxruntime lost files, and warns if two packages have written it.
    """
    packages = installed_packages()
    if not hasattr(onnxruntime, "InferenceSession"):
        raise ImportError(
            f"onnxruntime is damaged, as after removing one of two packages of it (installed: {packages}). "
            f"Install one again: {_REINSTALL} onnxruntime, or 'onnxruntime-gpu[cuda,cudnn]'."
        )
    if len(packages) > 1:
        warnings.warn(mixed_up(packages), RuntimeWarning, stacklevel=2)


check_installation()
