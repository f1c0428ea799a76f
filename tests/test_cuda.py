"""Diagnosis of CUDA, with a stand-in for driver and cards."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from spladerunner.inference.cuda import Card, CudaState, cuda_state, diagnose, free_memory
from spladerunner.inference.providers import Device

WORKING = CudaState("580.65", (Card("NVIDIA H200", 150 * 2**30, 140 * 2**30),), (13, 0), "13.0", True)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"driver": None, "cards": ()}, "No NVIDIA driver was found"),
        ({"driver": "", "cards": ()}, "not known without nvidia-ml-py: pip install nvidia-ml-py"),
        ({"cards": ()}, "The driver 580.65 finds no card"),
        ({"supported": (12, 4)}, "supports CUDA 12.4, and this onnxruntime needs 13.0: update the driver"),
        ({"cudnn": False}, "cuDNN 9 cannot be loaded: pip install 'onnxruntime-gpu[cuda,cudnn]'"),
        ({}, "Driver, card and cuDNN were found"),
        ({"supported": (13, 2), "built_for": "12.8"}, "Driver, card and cuDNN were found"),
    ],
)
def test_each_missing_part_of_cuda_has_its_own_words(changes: dict[str, Any], expected: str) -> None:
    assert expected in diagnose(WORKING._replace(**changes))


def stand_in_for_nvml(monkeypatch: pytest.MonkeyPatch, *, starts: bool) -> None:
    """Puts a module with the functions of nvidia-ml-py in its place, with two cards."""
    nvml: Any = types.ModuleType("pynvml")
    nvml.NVMLError = type("NVMLError", (Exception,), {})

    def start() -> None:
        if not starts:
            raise nvml.NVMLError("Driver Not Loaded")

    nvml.nvmlInit = start
    nvml.nvmlShutdown = lambda: None
    nvml.nvmlSystemGetCudaDriverVersion = lambda: 12040
    nvml.nvmlSystemGetDriverVersion = lambda: "550.54"
    nvml.nvmlDeviceGetCount = lambda: 2
    nvml.nvmlDeviceGetHandleByIndex = lambda at: at
    nvml.nvmlDeviceGetUUID = lambda at: f"GPU-{at}5f"
    nvml.nvmlDeviceGetName = lambda at: f"card {at}"
    nvml.nvmlDeviceGetMemoryInfo = lambda at: types.SimpleNamespace(total=1000 + at, free=100 + at)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)


def test_driver_and_cards_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_nvml(monkeypatch, starts=True)
    found = cuda_state()
    assert (found.driver, found.supported) == ("550.54", (12, 4))
    assert found.cards == (Card("card 0", 1000, 100), Card("card 1", 1001, 101))
    assert free_memory(Device("cuda", 1)) == 101
    assert free_memory(Device("cuda", 2)) is None and free_memory(Device("dml", 0)) is None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("1", ["card 1"]),
        ("1, 0", ["card 1", "card 0"]),
        ("GPU-15f", ["card 1"]),
        ("GPU-1,0", ["card 1", "card 0"]),
        ("", []),
        ("-1", []),
        ("0,7,1", ["card 0"]),
        ("GPU-", []),  # of both
    ],
)
def test_cards_are_those_that_cuda_uses(monkeypatch: pytest.MonkeyPatch, names: str, expected: list[str]) -> None:
    stand_in_for_nvml(monkeypatch, starts=True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)
    found = cuda_state()
    assert [card.name for card in found.cards] == expected
    if not expected:
        assert diagnose(found) == f"The driver 550.54 finds no card (CUDA_VISIBLE_DEVICES={names})."
    elif expected[0] == "card 1":
        assert free_memory(Device("cuda", 0)) == 101


def test_no_driver_is_told_from_no_library_that_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_nvml(monkeypatch, starts=False)
    assert cuda_state().driver is None and cuda_state().cards == ()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert cuda_state().driver == ""
