from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spladerunner import Expander, ModelFilesError, SparseVector
from spladerunner.inference.encoder import TokenWeightsEncoder
from spladerunner.inference.tokenizer import Tokenizer
from spladerunner.model.manifest import TokenWeightsRole
from tests.small_model import TOKENS, SmallGraph, change_manifest, graph_role, records, tokenizer, write_bundle


@pytest.fixture
def small(tmp_path: Path) -> Tokenizer:
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    return Tokenizer(tmp_path / "tokenizer.json")


def test_token_weights_count_each_token_once_and_special_ones_never(tmp_path: Path, small: Tokenizer) -> None:
    weights = np.arange(len(TOKENS), dtype=np.float32)
    encoder = TokenWeightsEncoder(tmp_path / "query.npy", weights, small.vocabulary)
    found = encoder(small.encode("the cat the cat [MASK] ꙮ", 32))
    cat, the = TOKENS.index("cat"), TOKENS.index("the")
    assert found == SparseVector(sorted([cat, the]), sorted([cat, the]))
    assert encoder(small.encode("", 32)) == SparseVector([], [])


def test_tokens_without_a_weight_are_left_out(tmp_path: Path, small: Tokenizer) -> None:
    encoder = TokenWeightsEncoder(tmp_path / "query.npy", np.zeros(len(TOKENS), dtype=np.float32), small.vocabulary)
    assert len(encoder(small.encode("the cat", 32))) == 0


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, -0.5])
def test_weights_that_are_no_weights_are_an_error(tmp_path: Path, small: Tokenizer, wrong: float) -> None:
    weights = np.ones(len(TOKENS), dtype=np.float32)
    weights[TOKENS.index("cat")] = wrong
    with pytest.raises(ModelFilesError, match=r"query\.npy gives the token 'cat' the weight .*finite and not negative"):
        TokenWeightsEncoder(tmp_path / "query.npy", weights, small.vocabulary)


def test_a_bundle_may_serve_queries_by_token_weights(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    weights = np.full(len(TOKENS), 2.5, dtype=np.float32)
    np.save(bundle / "query.npy", weights)
    change_manifest(
        bundle,
        roles={"doc": graph_role("doc.onnx", 32), "query": TokenWeightsRole("query.npy", 16)},
        files=records(bundle, "tokenizer.json", "doc.onnx", "query.npy"),
    )
    (bundle / "query.onnx").unlink()
    expander = Expander(bundle)
    assert expander.expand_query("the cat") == [{"the": 2.5, "cat": 2.5}]
    assert {match.token for match in expander.explain("the cat", "the cat sat").shared} <= {"the", "cat"}


@pytest.mark.parametrize("pooling", ["max", "sum"])
@pytest.mark.parametrize(
    ("activation", "formula"),
    [
        ("relu", lambda x: np.maximum(x, 0)),
        ("log1p_relu", lambda x: np.log1p(np.maximum(x, 0))),
        ("log1p_log1p_relu", lambda x: np.log1p(np.log1p(np.maximum(x, 0)))),
    ],
)
def test_logits_are_pooled_and_activated_as_the_manifest_says(
    tmp_path: Path, pooling: str, activation: str, formula: object
) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    change_manifest(
        bundle,
        roles={
            "doc": graph_role("doc.onnx", 32, pooling=pooling, activation=activation),
            "query": graph_role("query.onnx", 16),
        },
    )
    logits = SmallGraph(seed=1).logits(tokenizer().encode("the cat sat").ids)
    pooled = getattr(formula(logits), pooling)(axis=0)  # type: ignore[operator]
    (vector,) = Expander(bundle).encode("the cat sat")
    weights = np.zeros(len(TOKENS), dtype=np.float32)
    weights[vector.indices] = vector.values
    np.testing.assert_allclose(weights[5:], pooled[5:], rtol=1e-4, atol=1e-5)
    assert not weights[:5].any()
