"""Diagnosis of CUDA: finds driver, cards and cuDNN, and names what is missing."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

import onnxruntime

from spladerunner.inference.providers import Device


class Card(NamedTuple):
    """An NVIDIA card: memory in bytes."""

    name: str
    total_memory: int
    free_memory: int


class CudaState(NamedTuple):
    """Requirements of a CUDA provider, as found here.

    driver: version of NVIDIA's driver, None if there is none, "" if nvidia-ml-py, which finds it, is missing. cards:
    those that CUDA_VISIBLE_DEVICES leaves. supported, built_for: CUDA versions of the driver and of onnxruntime. cudnn:
    whether the library loads.
    """

    driver: str | None
    cards: tuple[Card, ...]
    supported: tuple[int, int]
    built_for: str
    cudnn: bool


def cuda_state() -> CudaState:
    """Looks for driver, cards and cuDNN. Driver and cards are found by nvidia-ml-py, which the extra gpu installs."""
    built_for = str(getattr(onnxruntime, "cuda_version", "") or "")
    try:
        ctypes.CDLL("libcudnn.so.9" if os.name == "posix" else "cudnn64_9.dll")
        cudnn = True
    except OSError:
        cudnn = False
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return CudaState("", (), (0, 0), built_for, cudnn)
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return CudaState(None, (), (0, 0), built_for, cudnn)
    try:
        version = nvml.nvmlSystemGetCudaDriverVersion()
        handles = [nvml.nvmlDeviceGetHandleByIndex(at) for at in range(nvml.nvmlDeviceGetCount())]
        cards = []
        for at in _visible([str(nvml.nvmlDeviceGetUUID(handle)) for handle in handles]):
            memory = nvml.nvmlDeviceGetMemoryInfo(handles[at])
            cards.append(Card(str(nvml.nvmlDeviceGetName(handles[at])), int(memory.total), int(memory.free)))
        supported = (version // 1000, version % 1000 // 10)
        return CudaState(str(nvml.nvmlSystemGetDriverVersion()), tuple(cards), supported, built_for, cudnn)
    finally:
        nvml.nvmlShutdown()


def _visible(ids: Sequence[str]) -> list[int]:
    """Numbers of the cards that CUDA uses, in its order, of cards with these UUIDs.

    CUDA_VISIBLE_DEVICES names them by numbers or beginnings of UUIDs, and an unknown name ends the list (CUDA C++
    Programming Guide, "CUDA Environment Variables").
    """
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        return [*range(len(ids))]
    found: list[int] = []
    for name in map(str.strip, names.split(",")):
        known = [at for at, each in enumerate(ids) if name == str(at) or (name and each.startswith(name))]
        if len(known) != 1:
            break
        found += known
    return found


def diagnose(state: CudaState) -> str:
    """Says what keeps CUDA from starting, and what to install.

    >>> diagnose(CudaState("535.54", (Card("H200", 10, 10),), (12, 2), "13.0", True))
    'The driver 535.54 supports CUDA 12.2, and this onnxruntime needs 13.0: update the driver.'
    """
    if state.driver == "":
        return "Driver and card are not known without nvidia-ml-py: pip install nvidia-ml-py, and try again."
    if state.driver is None:
        return "No NVIDIA driver was found: install one, or in a container run it with --gpus all."
    if not state.cards:
        return (
            f"The driver {state.driver} finds no card (CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES')})."
        )
    if state.built_for and state.supported[0] < int(state.built_for.partition(".")[0]):
        return (
            f"The driver {state.driver} supports CUDA {'.'.join(map(str, state.supported))}, and this onnxruntime "
            f"needs {state.built_for}: update the driver."
        )
    if not state.cudnn:
        return "cuDNN 9 cannot be loaded: pip install 'onnxruntime-gpu[cuda,cudnn]'."
    return "Driver, card and cuDNN were found: see the messages of onnxruntime with log level 0."


def free_memory(device: Device) -> int | None:
    """Free bytes of a card, None if nvidia-ml-py does not tell."""
    cards = cuda_state().cards if device.type == "cuda" else ()
    return cards[device.id].free_memory if device.id < len(cards) else None
