"""The command doctor: what it prints, and the trial of each provider."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from spladerunner import ProviderError, __version__
from spladerunner.cli.main import main
from spladerunner.inference import cuda, providers, trial
from spladerunner.inference.cuda import Card, CudaState
from spladerunner.inference.providers import CPU
from spladerunner.inference.session import Session
from spladerunner.inference.trial import try_providers


def test_prints_versions_cards_and_a_trial(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card("NVIDIA H200", 150 * 2**30, 75 * 2**30)
    state = CudaState("580.65", (card,), (13, 0), "13.0", True)
    monkeypatch.setattr(cuda, "cuda_state", lambda: state)
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert re.search(rf"^spladerunner +{re.escape(__version__)}$", printed, re.MULTILINE)
    assert re.search(rf"^onnxruntime +{re.escape(onnxruntime.__version__)}$", printed, re.MULTILINE)
    assert re.search(r"^card +NVIDIA H200, 75\.0 of 150\.0 GiB free$", printed, re.MULTILINE)
    assert re.search(rf"^{CPU} +works$", printed, re.MULTILINE)


def test_a_mix_up_of_packages_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "installed_packages", lambda: ["numpy", "onnxruntime"])
    main(["doctor"])
    assert "numpy and onnxruntime are both installed and write the same files" in capsys.readouterr().out


def test_a_driver_that_cannot_be_looked_for_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = cuda.CudaState("", (), (0, 0), "13.0", True)
    monkeypatch.setattr(cuda, "cuda_state", lambda: state)
    main(["doctor"])
    assert re.search(r"^NVIDIA driver +not known without nvidia-ml-py: pip install", capsys.readouterr().out, re.M)


def test_each_provider_is_compared_with_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shifted(Session):
        """A provider whose logits are off, those for queries by more, and one that does not start."""

        def __init__(self, path: Any, names: Any = (CPU,)) -> None:
            if names[0] == "Absent":
                raise ProviderError("['Absent'] did not start")
            super().__init__(path)
            query = Path(path).name == "query.onnx"
            self.shift = (0.25 if query else 0.125) if names[0] == "Shifted" else 0

        def run(self, text: Any) -> Any:
            return super().run(text) + self.shift

    monkeypatch.setattr(trial, "Session", Shifted)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["Shifted", "Absent", CPU])
    found = dict(try_providers())
    assert list(found) == [CPU, "Shifted", "Absent"]
    assert found == {
        CPU: "works",
        "Shifted": "works, largest difference of a logit 0.25",
        "Absent": "fails: ['Absent'] did not start",
    }
