"""Batches on a device, tried on the CPU provider with graphs of the device's form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spladerunner import Expander, ModelFilesError, ProviderError
from spladerunner.inference import batch_encoder, batches, host_memory, providers
from spladerunner.inference.batch_encoder import BatchEncoder
from spladerunner.inference.batches import Batch, TokenBudget
from spladerunner.inference.providers import CPU, Device
from spladerunner.inference.session import DeviceMemoryError, Session
from spladerunner.inference.tokenizer import Tokenizer
from spladerunner.model.bundle import TOKENIZER
from spladerunner.model.manifest import MANIFEST, FileRecord, Manifest
from tests.small_model import SmallGraph, expected_weights, tokenizer, write_bundle

TEXTS = ["the cat sat on the mat", "", "dog", "river bank money run", "a!", "the the the the the the the", " \n"] * 3


def write_pooled_bundle(folder: Path) -> Path:
    """Writes a bundle of graphs that pool inside, as for a device."""
    write_bundle(folder)
    SmallGraph(seed=1).save(folder / "doc.onnx", pools_inside=True)
    SmallGraph(seed=2).save(folder / "query.onnx", pools_inside=True)
    manifest = Manifest.read(folder / MANIFEST)
    replace(manifest, files={name: FileRecord.of(folder / name) for name in manifest.files}).write(folder / MANIFEST)
    return folder


@pytest.fixture
def pooled_bundle(tmp_path: Path) -> Path:
    return write_pooled_bundle(tmp_path / "pooled")


@pytest.fixture
def cpu_as_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs batches on the CPU provider."""
    monkeypatch.setattr(providers, "_GPU_DEVICES", {CPU: "cpu"})


@pytest.fixture(scope="module")
def shared_encoder(tmp_path_factory: pytest.TempPathFactory) -> tuple[BatchEncoder, Limited, Tokenizer]:
    return open_encoder(write_pooled_bundle(tmp_path_factory.mktemp("shared") / "pooled"))


class Limited(Session):
    """A session on a device with room for few tokens; what it ran is recorded."""

    room = 10**9

    def __init__(self, path: Path) -> None:
        super().__init__(path, device=Device("cpu", 0))
        self.ran: list[tuple[int, ...]] = []

    def run_batch(self, batch: Batch, weights: Any) -> None:
        if batch.tokens > self.room:
            raise DeviceMemoryError(f"failed on {batch.tokens} tokens")
        self.ran.append(batch.ids.shape)
        super().run_batch(batch, weights)


def open_encoder(folder: Path) -> tuple[BatchEncoder, Limited, Tokenizer]:
    session = Limited(folder / "doc.onnx")
    tokens = Tokenizer(folder / TOKENIZER)
    return BatchEncoder(session, tokens.vocabulary), session, tokens


@pytest.mark.usefixtures("cpu_as_device")
def test_batches_give_the_weights_of_the_published_formula(pooled_bundle: Path) -> None:
    expander = Expander(pooled_bundle)
    plain = tokenizer()
    for role, seed, encoded in (("doc", 1, expander.expand(TEXTS)), ("query", 2, expander.expand_query(TEXTS))):
        for text, found in zip(TEXTS, encoded, strict=True):
            ids = plain.encode(text).ids
            expected = expected_weights(SmallGraph(seed=seed).logits(ids)) if text.strip() else {}
            assert found == pytest.approx(expected, abs=1e-5), (role, text)


@pytest.mark.usefixtures("cpu_as_device")
def test_texts_run_together(pooled_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[int, ...]] = []
    run_batch = Session.run_batch

    def observe(session: Session, batch: Batch, weights: Any) -> None:
        ran.append(batch.ids.shape)
        run_batch(session, batch, weights)

    monkeypatch.setattr(Session, "run_batch", observe)
    expander = Expander(pooled_bundle)
    expander.encode(["the cat"] * 40)
    assert ran == [(40, 16)]
    del ran[:]
    Expander(pooled_bundle, tokens_in_flight=64).encode(["the cat"] * 40)
    assert ran == [(4, 16)] * 10


def test_on_the_cpu_each_text_runs_alone(pooled_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "run_batch", None)
    assert Expander(pooled_bundle).encode(["the cat"] * 3)[0].indices.size


@pytest.mark.slow
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(alphabet="abc the cat dog!", max_size=60), max_size=30), st.integers(16, 600))
def test_a_vector_in_any_batch_is_nearly_that_of_the_text_alone(
    shared_encoder: tuple[BatchEncoder, Limited, Tokenizer], texts: list[str], tokens: int
) -> None:
    encoder, _, tokenizer_ = shared_encoder
    tokenized = [tokenizer_.encode(text, 32) for text in texts]
    together = batches.run_in_batches(
        tokenized,
        encoder.encode,
        budget=TokenBudget(tokens),
        max_length=32,
        threads=2,
        tokens_in_flight=2 * tokens,
    )
    for text, vector in zip(tokenized, together, strict=True):
        alone = encoder(text)
        assert np.array_equal(vector.indices, alone.indices)
        np.testing.assert_allclose(vector.values, alone.values, rtol=0, atol=1e-5)


def test_too_little_memory_halves_the_budget_with_one_warning(pooled_bundle: Path) -> None:
    encoder, session, tokens = open_encoder(pooled_bundle)
    texts = [(place, tokens.encode("the cat", 32)) for place in range(16)]
    whole = encoder.encode(Batch.of(texts, 16))
    session.room, session.ran = 64, []
    with pytest.warns(RuntimeWarning, match="256 tokens do not fit"):
        halved = encoder.encode(Batch.of(texts, 16))
    encoder.encode(Batch.of(texts, 16))  # a second warning would be an error
    assert session.ran == [(4, 16)] * 8
    assert encoder.budget.tokens == 64
    assert [vector.indices.tolist() for vector in halved] == [vector.indices.tolist() for vector in whole]


def test_a_text_that_does_not_fit_alone_is_an_error(pooled_bundle: Path) -> None:
    encoder, session, tokens = open_encoder(pooled_bundle)
    session.room = 3
    texts = [(0, tokens.encode("the cat", 32)), (1, tokens.encode("dog", 32))]
    with pytest.raises(DeviceMemoryError, match="failed on"), pytest.warns(RuntimeWarning, match="do not fit"):
        encoder.encode(Batch.of(texts, 16))


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Available memory of 1024 is smaller than requested bytes of 4096", DeviceMemoryError),
        ("Failed to allocate memory for requested buffer of size 4096", DeviceMemoryError),
        ("CUDA failure 2: out of memory ; GPU=0", DeviceMemoryError),
        ("CUDA error cudaErrorIllegalAddress", ModelFilesError),
    ],
)
def test_errors_of_memory_are_told_from_others(
    pooled_bundle: Path, monkeypatch: pytest.MonkeyPatch, message: str, kind: type[Exception]
) -> None:
    encoder, session, tokens = open_encoder(pooled_bundle)

    class Broken:
        def io_binding(self) -> None:
            raise RuntimeError(message)

    monkeypatch.setattr(session, "_session", Broken())
    with pytest.raises(ModelFilesError, match="failed on 1 texts of 4 tokens") as caught:
        encoder(tokens.encode("the cat", 32))
    assert type(caught.value) is kind


def test_the_budget_follows_the_free_memory_and_is_capped(pooled_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, expected in (
        (None, batches.MOST_TOKENS),
        (2**30, 2**30 // 2 // batch_encoder.BYTES_PER_TOKEN),
        (2**40, batches.MOST_TOKENS),
    ):
        monkeypatch.setattr(batch_encoder, "free_memory", lambda _, free=free: free)
        assert open_encoder(pooled_bundle)[0].budget.tokens == expected


def test_memory_of_runs_is_reused(pooled_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, session, tokens = open_encoder(pooled_bundle)
    allocated: list[int] = []
    allocate = host_memory.allocate

    def observe(size: int, device: Device) -> Any:
        allocated.append(size)
        return allocate(size, device)

    monkeypatch.setattr(host_memory, "allocate", observe)
    for words in ("the cat", "dog"):
        for rows in (3, 2, 3):
            batch = [tokens.encode(words, 32)] * rows
            found = encoder.encode(Batch.of(list(enumerate(batch)), 16))
            assert found == [encoder(text) for text in batch]
    assert set(session._bound) == {(3, 16), (2, 16), (1, 4), (1, 3)}
    assert allocated.count(2048) == 1, "for 3 x 89 weights of 4 bytes"
    inputs = [8 * rows * length for rows, length in ((3, 16), (2, 16), (1, 4), (1, 3))]
    assert sorted(allocated) == sorted([2048, *inputs * len(session._inputs)]), "once for each shape"


def test_shapes_that_stay_bound_are_bounded(pooled_bundle: Path) -> None:
    encoder, session, tokens = open_encoder(pooled_bundle)
    for rows in range(1, 70):
        encoder.encode(Batch.of([(0, tokens.encode("dog", 32))] * rows, 16))
        assert (rows, 16) in session._bound and len(session._bound) <= 64


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_numbers_that_are_not_finite_are_an_error(
    pooled_bundle: Path, monkeypatch: pytest.MonkeyPatch, value: float, kind: type[np.floating[Any]]
) -> None:
    encoder, session, tokens = open_encoder(pooled_bundle)

    def run_batch(_: Batch, weights: Any) -> None:
        weights[:] = 0
        weights[0, 7] = -value  # NaN of either sign

    monkeypatch.setattr(session, "run_batch", run_batch)
    monkeypatch.setattr(session, "output_type", np.dtype(kind))
    with pytest.raises(ModelFilesError, match="not finite"):
        encoder(tokens.encode("the cat", 32))


def test_a_graph_that_leaves_logits_runs_one_text_at_a_time_on_a_device(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Expander(bundle).encode(TEXTS)
    monkeypatch.setattr(providers, "_GPU_DEVICES", {CPU: "cpu"})
    monkeypatch.setattr(Session, "run_batch", None)
    assert Expander(bundle).encode(TEXTS) == expected


@pytest.mark.usefixtures("cpu_as_device")
def test_an_error_names_the_text(pooled_bundle: Path) -> None:
    with pytest.raises(TypeError, match=r"1\b.*NoneType"):
        Expander(pooled_bundle).encode(["the cat", None])  # type: ignore[list-item]


def test_a_bundle_for_the_other_target_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for_gpus = write_bundle(tmp_path / "float16", weight_type="float16")
    with pytest.raises(ProviderError, match=r"small has float16 graphs, .* spladerunner export"):
        Expander(for_gpus)
    monkeypatch.setattr(providers, "_GPU_DEVICES", {CPU: "cpu"})
    Expander(for_gpus)
    for_cpus = write_bundle(tmp_path / "int8", weight_type="int8")
    with pytest.raises(ProviderError, match=r"small has int8 graphs, .* --for cuda"):
        Expander(for_cpus)
