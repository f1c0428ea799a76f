"""A graph of the form that devices run, float32 in place of float16, in batches on the CPU provider, against torch."""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spladerunner.export.checkpoint import Checkpoint
from spladerunner.export.graph import build_graph
from spladerunner.export.passes.append_pooling import AppendPooling
from spladerunner.export.passes.contract import Graph
from spladerunner.inference.batch_encoder import BatchEncoder
from spladerunner.inference.batches import TokenBudget, run_in_batches
from spladerunner.inference.providers import Device
from spladerunner.inference.session import Session
from spladerunner.inference.tokenizer import Tokenizer
from spladerunner.model.bundle import TOKENIZER
from spladerunner.model.sentence_transformers import MaskedLanguageModel
from tests.checkpoints import save_bert
from tests.small_model import WORDS
from tests.torch_reference import torch_weights

LENGTH = 60
TEXTS = [" ".join(random.Random(size).choices(WORDS, k=size)) for size in (*range(1, 30), 47, 48, 58, 59, 90)]


class Model(NamedTuple):
    encoder: BatchEncoder
    tokenizer: Tokenizer
    expected: NDArray[np.float32]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("device")
    checkpoint = Checkpoint(MaskedLanguageModel(save_bert(folder / "checkpoint")))
    checkpoint.save_tokenizer(folder / TOKENIZER)
    build_graph(checkpoint, folder / "float16.onnx", target="cuda", keep=folder / "passes")
    optimized = Graph(folder / "passes" / "optimize.onnx")
    graph = AppendPooling("max", "log1p_relu", tile=16)(optimized, folder / "pooled.onnx").graph
    tokenizer = Tokenizer(folder / TOKENIZER)
    encoder = BatchEncoder(Session(graph.path, device=Device("cpu", 0)), tokenizer.vocabulary)
    return Model(encoder, tokenizer, torch_weights(folder / "checkpoint", TEXTS, max_length=LENGTH))


def encode(model: Model, chosen: list[int], tokens: int) -> NDArray[np.float32]:
    """Dense rows of the texts with these numbers, in runs of at most so many tokens."""
    vectors = run_in_batches(
        (model.tokenizer.encode(TEXTS[number], LENGTH) for number in chosen),
        model.encoder.encode,
        budget=TokenBudget(tokens),
        max_length=LENGTH,
        threads=2,
        tokens_in_flight=2 * tokens,
    )
    rows = np.zeros((len(chosen), model.expected.shape[1]), dtype=np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        row[vector.indices] = vector.values
    return rows


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, len(TEXTS) - 1), max_size=24), st.integers(16, 1000))
def test_any_batches_of_any_lengths_agree_with_torch(model: Model, chosen: list[int], tokens: int) -> None:
    np.testing.assert_allclose(encode(model, chosen, tokens), model.expected[chosen], rtol=0, atol=1e-4)


def test_a_vector_differs_between_batches_by_no_more_than_the_documented_bound(model: Model) -> None:
    everything = [*range(len(TEXTS))]
    alone = np.concatenate([encode(model, [number], 16) for number in everything])
    for tokens in (16, 100, 300, 5000):
        for order in (everything, everything[::-1], everything * 3):
            found = encode(model, order, tokens)
            assert np.abs(found - alone[order]).max() <= 1e-5
