"""Both ways to convert, each in the environment that has it: the same checkpoints, the same figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import transformers
from transformers import AutoTokenizer

from spladerunner import Expander
from spladerunner.export import ExportOptions, export_bundle, pipeline
from spladerunner.export.checkpoint import Checkpoint
from spladerunner.model.manifest import MANIFEST
from spladerunner.model.provenance import ExportManifest, GraphAgreement
from spladerunner.model.sentence_transformers import MaskedLanguageModel
from tests.checkpoints import SMALL, WORDS
from tests.torch_reference import torch_weights

TEXTS = ["the cat sat on the mat", "river bank naïve", " ".join(WORDS) * 3, "x"]
CONVERTER = "optimum" if transformers.__version__.startswith("4.") else "transformers.exporters"

pytestmark = pytest.mark.usefixtures("quiet_libraries")


@pytest.fixture(autouse=True)
def few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "verification_texts", lambda: TEXTS)


@pytest.mark.parametrize("family", SMALL)
def test_a_checkpoint_converts_and_agrees_with_torch(family: str, tmp_path: Path) -> None:
    checkpoint = SMALL[family](tmp_path / "checkpoint")
    folder = export_bundle(ExportOptions(checkpoint, tmp_path / "bundle"))
    manifest = ExportManifest.read(folder / MANIFEST)
    assert manifest.made_by is not None and manifest.verification is not None
    assert manifest.made_by.converter == CONVERTER
    assert manifest.made_by.versions["transformers"] == transformers.__version__
    measured = manifest.verification.roles["doc"]
    assert isinstance(measured, GraphAgreement) and measured.fp32_largest_difference <= 1e-4
    expected = torch_weights(checkpoint, TEXTS, max_length=64)[:, : len(AutoTokenizer.from_pretrained(checkpoint))]
    found = np.zeros_like(expected)
    for row, vector in zip(found, Expander(folder).encode(TEXTS), strict=True):
        row[vector.indices] = vector.values
    cosines = (expected * found).sum(axis=1) / np.linalg.norm(expected, axis=1) / np.linalg.norm(found, axis=1)
    assert cosines.min() > 0.99
    fused = {node.op_type for node in onnx.load(folder / "doc.onnx").graph.node}
    assert ("MultiHeadAttention" in fused) == (family != "modernbert")


def test_a_converted_graph_takes_padded_texts_of_any_length(tmp_path: Path) -> None:
    """As passes for CUDA need it."""
    graph = Checkpoint(MaskedLanguageModel(SMALL["bert"](tmp_path / "checkpoint"))).convert(tmp_path / "graph")
    session = onnxruntime.InferenceSession(str(graph.path), providers=["CPUExecutionProvider"])
    assert [given.name for given in session.get_inputs()][:2] == ["input_ids", "attention_mask"]
    ids = np.array([[2, 7, 8, 9, 3], [2, 7, 3, 0, 0]])

    def logits(ids: np.ndarray) -> np.ndarray:
        feeds = {"input_ids": ids, "attention_mask": np.minimum(ids, 1), "token_type_ids": np.zeros_like(ids)}
        found: np.ndarray = session.run(None, {each.name: feeds[each.name] for each in session.get_inputs()})[0]
        return found

    np.testing.assert_allclose(logits(ids)[1, :3], logits(ids[1:, :3])[0], atol=1e-5)
