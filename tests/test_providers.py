"""Execution providers: which are available, which run batches, and the errors that say what is missing."""

from __future__ import annotations

import subprocess
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from spladerunner import ProviderError
from spladerunner.inference import cuda, providers
from spladerunner.inference.arena import products_saturate
from spladerunner.inference.providers import (
    CPU,
    CUDA,
    Device,
    check_installation,
    check_providers,
    device_of,
    installed_packages,
    not_started,
)
from spladerunner.inference.session import Session
from tests.test_cuda import WORKING


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


def test_the_error_has_the_diagnosis_and_onnxruntimes_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "cuda_state", lambda: WORKING._replace(cudnn=False))
    error = not_started([CUDA], [CPU], "doc.onnx", "CUDNN_STATUS_NOT_INITIALIZED")
    assert "opened doc.onnx with ['CPUExecutionProvider'] only. cuDNN 9 cannot be loaded" in str(error)
    assert str(error).endswith("onnxruntime says: CUDNN_STATUS_NOT_INITIALIZED")
    assert error.providers == (CUDA,) and error.available == (CPU,)
    assert "cuDNN" not in str(not_started(["CoreMLExecutionProvider"], [CPU], "doc.onnx"))


def test_libraries_that_are_missing_are_told_in_the_error_and_not_on_standard_output(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    def preload() -> None:
        for line in ("No libcublas.so.13", "See the docs."):
            print(line)  # noqa: T201

    inside = types.FunctionType(preload.__code__, vars(onnxruntime))
    monkeypatch.setattr(onnxruntime, "preload_dlls", inside)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnxruntime warns of a provider that it lacks
        with pytest.raises(ProviderError, match=r"onnxruntime says: No libcublas\.so\.13; See the docs\.$") as caught:
            Session(bundle / "doc.onnx", [CUDA])
    assert caught.value.providers == (CUDA,)
    assert capsys.readouterr().out == ""
    assert "print" not in vars(onnxruntime)
    monkeypatch.setattr(onnxruntime, "preload_dlls", None)
    Session(bundle / "doc.onnx", [CPU])


def test_a_provider_that_cannot_start_is_told_from_a_damaged_graph(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("Please install TensorRT libraries as mentioned in the GPU requirements page")

    products_saturate()  # runs a graph once
    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["TensorrtExecutionProvider", CPU])
    with pytest.raises(ProviderError, match=r"'TensorrtExecutionProvider'.* did not start: .* install TensorRT lib"):
        Session(bundle / "doc.onnx", ["TensorrtExecutionProvider"])
