"""The embedded pair against its trained checkpoints in torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from spladerunner import Expander, SparseVector
from spladerunner.export.checkpoint import Checkpoint
from spladerunner.export.verify import verification_texts
from spladerunner.model.manifest import RoleName
from spladerunner.model.sentence_transformers import MaskedLanguageModel
from tests.small_model import SYMMETRIC
from tests.torch_reference import torch_weights

VOCABULARY_SIZE = 20480


@pytest.fixture(scope="module")
def texts(shared: Path) -> list[str]:
    """Varied texts: every second that the export verifies with, and abstracts that it has never seen."""
    with (shared / "data" / "scifact" / "corpus.jsonl").open(encoding="utf-8") as file:
        abstracts = [json.loads(next(file))["text"] for _ in range(60)]
    return [*verification_texts()[::2], *abstracts]


@pytest.fixture(scope="module", params=["doc", "query"])
def role(request: pytest.FixtureRequest) -> RoleName:
    name: RoleName = request.param
    return name


@pytest.fixture(scope="module")
def published(shared: Path, texts: list[str], role: RoleName) -> NDArray[np.float32]:
    return torch_weights(shared / "tiny-en" / role, texts)


def dense(vectors: list[SparseVector]) -> NDArray[np.float32]:
    rows = np.zeros((len(vectors), VOCABULARY_SIZE), dtype=np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        row[vector.indices] = vector.values
    return rows


def test_the_float32_graph_has_every_weight_of_the_checkpoint(
    shared: Path, texts: list[str], role: RoleName, published: NDArray[np.float32], tmp_path: Path
) -> None:
    checkpoint = Checkpoint(MaskedLanguageModel(shared / "tiny-en" / role))
    checkpoint.convert(tmp_path)
    checkpoint.save_tokenizer(tmp_path / "tokenizer.json")
    weights = dense(Expander(tmp_path, **SYMMETRIC).encode(texts))
    np.testing.assert_allclose(weights, published, rtol=0, atol=1e-4)


def test_the_embedded_int8_graph_points_where_the_checkpoint_does(
    expander: Expander, texts: list[str], role: RoleName, published: NDArray[np.float32]
) -> None:
    weights = dense(expander.encode(texts, role=role))
    lengths = np.linalg.norm(weights, axis=1) * np.linalg.norm(published, axis=1)
    cosines = np.einsum("nv,nv->n", weights, published) / lengths
    assert cosines.min() >= 0.99
    assert cosines.mean() >= 0.999
