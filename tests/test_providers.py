"""Execution providers: which are available, which run batches, and the errors that say what is missing."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from spladerunner import ProviderError
from spladerunner.inference import providers
from spladerunner.inference.providers import (
    CPU,
    CUDA,
    Card,
    CudaState,
    Device,
    check_installation,
    check_providers,
    cuda_state,
    device_of,
    diagnose,
    free_memory,
    installed_packages,
    not_started,
)

WORKING = CudaState("580.65", (Card("NVIDIA H200", 150 * 2**30, 140 * 2**30),), (13, 0), "13.0", True)


def test_only_gpus_run_batches() -> None:
    assert device_of([CPU]) is None
    assert device_of(["OpenVINOExecutionProvider", CPU]) is None
    assert device_of([CUDA, CPU]) == Device("cuda", 0)
    assert device_of([(CUDA, {"device_id": 1})]) == device_of([(CUDA, {"device_id": "1"})]) == Device("cuda", 1)
    assert device_of(["DmlExecutionProvider"]) == Device("dml", 0)
    assert device_of([CPU, CUDA]) is None, "the first provider is the preferred one"


def test_options_stand_beside_the_name() -> None:
    check_providers([(CPU, {"arena_extend_strategy": "kSameAsRequested"})])
    with pytest.raises(ProviderError, match="NoSuchProvider") as caught:
        check_providers([("NoSuchProvider", {"device_id": 1}), CPU])
    assert caught.value.providers == ("NoSuchProvider",)


def test_an_unknown_name_is_told_from_one_that_another_build_has(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProviderError, match=r"No onnxruntime has \['CudaProvider'\]; the names are .*CUDAExecution"):
        check_providers(["CudaProvider"])
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(ProviderError, match=r"Install a build of onnxruntime that has \['MIGraphXExecutionProvider'\]"):
        check_providers(["MIGraphXExecutionProvider"])
    monkeypatch.setattr(providers, "installed_packages", lambda: ["onnxruntime"])
    with pytest.raises(ProviderError, match=r"The package onnxruntime has no CUDA: .* 'onnxruntime-gpu\[cuda,cudnn\]'"):
        check_providers([CUDA])
    monkeypatch.setattr(providers, "installed_packages", lambda: ["onnxruntime", "onnxruntime-gpu"])
    with pytest.raises(ProviderError, match="onnxruntime and onnxruntime-gpu are both installed"):
        check_providers([CUDA])


def test_installed_packages_are_read_from_their_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed_packages() == ["onnxruntime"]
    for name in ("onnxruntime-1.32.0", "onnxruntime_gpu-1.31.1", "onnxruntime_extensions-0.14.0", "numpy-2.0.0"):
        (tmp_path / f"{name}.dist-info").mkdir()
    monkeypatch.setattr(onnxruntime, "__path__", [str(tmp_path / "onnxruntime")])
    assert installed_packages() == ["onnxruntime", "onnxruntime-gpu"]
    with pytest.warns(RuntimeWarning, match="both installed and write the same files"):
        check_installation()


def test_a_damaged_onnxruntime_is_named_at_import(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime").mkdir()  # what is left of it when one of two packages is removed
    (tmp_path / "onnxruntime" / "__init__.py").write_text("")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import spladerunner"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "ImportError: onnxruntime is damaged" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"driver": None, "cards": ()}, "No NVIDIA driver was found"),
        ({"cards": ()}, "The driver 580.65 finds no card"),
        ({"supported": (12, 4)}, "supports CUDA 12.4, and this onnxruntime needs 13.0: update the driver"),
        ({"cudnn": False}, "cuDNN 9 cannot be loaded: pip install 'onnxruntime-gpu[cuda,cudnn]'"),
        ({}, "Driver, card and cuDNN were found"),
        ({"supported": (13, 2), "built_for": "12.8"}, "Driver, card and cuDNN were found"),
    ],
)
def test_each_missing_part_of_cuda_has_its_own_words(changes: dict[str, Any], expected: str) -> None:
    assert expected in diagnose(WORKING._replace(**changes))


def test_the_error_has_the_diagnosis_and_onnxruntimes_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "cuda_state", lambda: WORKING._replace(cudnn=False))
    error = not_started([CUDA], [CPU], "doc.onnx", "CUDNN_STATUS_NOT_INITIALIZED")
    assert "opened doc.onnx with ['CPUExecutionProvider'] only. cuDNN 9 cannot be loaded" in str(error)
    assert str(error).endswith("onnxruntime says: CUDNN_STATUS_NOT_INITIALIZED")
    assert error.providers == (CUDA,) and error.available == (CPU,)
    assert "cuDNN" not in str(not_started(["CoreMLExecutionProvider"], [CPU], "doc.onnx"))


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


def test_no_driver_and_no_library_are_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_nvml(monkeypatch, starts=False)
    assert cuda_state().driver is None and cuda_state().cards == ()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert cuda_state().driver is None
