"""Batches on an NVIDIA card: run with -m gpu, in an environment with onnxruntime-gpu."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from spladerunner import Expander, SparseVector
from spladerunner.export import ExportOptions, export_bundle
from spladerunner.export.verify import verification_texts
from spladerunner.inference import host_memory
from spladerunner.inference.providers import CUDA
from spladerunner.inference.trial import try_providers
from tests.torch_reference import torch_weights

pytestmark = pytest.mark.gpu

DIFFERENCE = 0.02
"""The most that a weight of the embedded model may differ between batches, as docs/guide/gpu.md says."""


@pytest.fixture(scope="module")
def bundle_for_cuda(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    options = ExportOptions(shared / "tiny-en" / "doc", tmp_path_factory.mktemp("cuda") / "bundle", target="cuda")
    return export_bundle(options)


def dense(expander: Expander, texts: list[str]) -> np.ndarray:
    rows = np.zeros((len(texts), len(expander.vocabulary)), dtype=np.float32)
    for row, vector in zip(rows, expander.encode(texts), strict=True):
        row[vector.indices] = vector.values
    return rows


def test_vectors_agree_with_torch(bundle_for_cuda: Path, shared: Path) -> None:
    texts = verification_texts()
    found = dense(Expander(bundle_for_cuda, providers=[CUDA]), texts)
    expected = torch_weights(shared / "tiny-en" / "doc", texts)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosines = np.einsum("tv,tv->t", found, expected)[lengths > 0] / lengths[lengths > 0]
    assert cosines.min() >= 0.999


def test_a_vector_hardly_depends_on_its_batch(bundle_for_cuda: Path) -> None:
    texts = verification_texts()
    together = dense(Expander(bundle_for_cuda, providers=[CUDA]), texts)
    small = dense(Expander(bundle_for_cuda, providers=[CUDA], tokens_in_flight=1024), texts)
    assert np.abs(together - small).max() <= DIFFERENCE


def test_awaited_calls_share_runs_and_hardly_depend_on_it(bundle_for_cuda: Path) -> None:
    texts = verification_texts()
    expander = Expander(bundle_for_cuda, providers=[CUDA])

    async def gather() -> list[SparseVector]:
        return [vector for (vector,) in await asyncio.gather(*map(expander.aencode, texts))]

    expected = dense(expander, texts)
    for row, vector in zip(expected, asyncio.run(gather()), strict=True):
        row[vector.indices] -= vector.values
    assert np.abs(expected).max() <= DIFFERENCE


def test_memory_for_weights_is_page_locked() -> None:
    runtime = host_memory._cuda_runtime()
    assert runtime is not None
    memory = host_memory._page_locked(runtime, 1 << 20, 0)
    assert memory is not None
    memory[:] = 7
    assert int(memory.sum(dtype=np.int64)) == 7 << 20


def test_the_card_works_by_a_trial() -> None:
    assert dict(try_providers())[CUDA].startswith("works")
