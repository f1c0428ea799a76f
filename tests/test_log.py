"""Records of internal decisions: on loggers below "spladerunner", silent by default, and free if nobody logs."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from spladerunner import Expander
from spladerunner.inference import arena
from tests.small_model import SYMMETRIC, SmallGraph, tokenizer


def test_the_decisions_of_an_expander_are_logged(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    arena.products_saturate.cache_clear()
    with caplog.at_level(logging.DEBUG, "spladerunner"):
        Expander(bundle, threads=2, tokens_in_flight=99).expand("the cat")
        Expander(bundle, {"doc": 20, "query": 10}, threads=3)
    assert {record.levelname for record in caplog.records} == {"DEBUG"}
    records = {(record.name, record.module, record.getMessage()) for record in caplog.records}
    for name, pattern in [
        ("spladerunner.expander", "2 threads, 99 tokens in flight"),
        ("spladerunner.expander", "3 threads, 120 tokens in flight"),  # two texts of the longest kind for each thread
        ("spladerunner.expander", "opening doc.onnx for doc"),
        ("spladerunner.inference.tokenizer", "of a long text a prefix is tokenized"),
        ("spladerunner.inference.arena", "int8 products"),
        ("spladerunner.inference.session", "['CPUExecutionProvider']: one thread a run"),
    ]:
        assert any(
            logger == name and module == name.rpartition(".")[2] and pattern in message
            for logger, module, message in records
        ), (name, pattern)


def test_the_graph_chosen_in_a_folder_without_a_manifest_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    SmallGraph().save(tmp_path / "model.onnx")
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    with caplog.at_level(logging.DEBUG, "spladerunner.model"):
        Expander(tmp_path, **SYMMETRIC)
    assert "has no manifest: model.onnx serves documents" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("setup", ["", "import logging", "import logging; logging.basicConfig()"])
def test_nothing_is_shown_by_default(setup: str) -> None:
    code = f"{setup}\nfrom spladerunner import Expander\nExpander().expand('atomic bomb')\nimport sys\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "print('logging' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == (f"{bool(setup)}\n", "")
