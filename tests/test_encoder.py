from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from spladerunner import Expander, ModelFilesError, SparseVector
from spladerunner.inference import providers
from spladerunner.inference.encoder import TokenWeightsEncoder
from spladerunner.inference.providers import CPU
from spladerunner.inference.tokenizer import Tokenizer
from spladerunner.model.manifest import MANIFEST, GraphRole, Manifest, RoleName, TokenWeightsRole
from tests.small_model import (
    SPECIAL,
    TOKENS,
    SmallGraph,
    change_manifest,
    graph_role,
    records,
    tokenizer,
    write_bundle,
    write_token_head_bundle,
)


@pytest.fixture
def small(tmp_path: Path) -> Tokenizer:
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    return Tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("first", ["doc", "query"])
def test_a_lexical_role_keeps_the_tokens_of_its_text(tmp_path: Path, first: RoleName) -> None:
    plain = write_bundle(tmp_path / "plain")
    lexical = write_bundle(tmp_path / "lexical")
    roles = Manifest.read(lexical / MANIFEST).roles
    assert isinstance(roles["doc"], GraphRole)
    change_manifest(lexical, roles={"doc": roles["doc"], "query": replace(roles["doc"], lexical=True)})
    expander, text = Expander(lexical), "the cat sat on the mat"
    expander.encode(text, role=first)  # one graph serves both, whichever is opened first
    expected = Expander(plain).expand(text)[0]
    assert expander.expand(text) == [expected]
    assert expander.expand_query(text) == [{word: expected[word] for word in text.split() if word in expected}]
    assert 0 < len(expander.expand_query(text)[0]) < len(expected)


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
    weights[TOKENS.index("cat")] = weights[TOKENS.index("cat") + 1] = wrong  # the first one is named
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


TEXTS = ["the cat sat on the mat", "", "the the cat the", "ꙮ [MASK] dog", "river bank money run naïve"]


def largest_of_each_token(text: str) -> dict[str, float]:
    """The published formula of a token head, position by position."""
    encoding = tokenizer().encode(text)
    logits = SmallGraph(seed=1).logits(encoding.ids)[:, 0]
    weights: dict[str, float] = {}
    for token, logit in zip(encoding.tokens, logits.tolist(), strict=True):
        if token not in SPECIAL and logit > weights.get(token, 0):
            weights[token] = logit
    return weights


def test_a_token_head_weighs_the_tokens_of_a_text(tmp_path: Path) -> None:
    expander = Expander(write_token_head_bundle(tmp_path / "bundle"))
    expected = [largest_of_each_token(text) for text in TEXTS]
    assert any(expected) and not expected[1]
    for found in (expander.expand(TEXTS), expander.expand_query(TEXTS)):
        assert found == [pytest.approx(weights, rel=1e-5) for weights in expected]
    match, *_ = expander.explain("the cat", "the cat sat").shared
    assert match.query_weight == pytest.approx(largest_of_each_token("the cat")[match.token], rel=1e-5)


def test_a_token_head_runs_texts_alone_on_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_GPU_DEVICES", {CPU: "cpu"})
    expander = Expander(write_token_head_bundle(tmp_path / "bundle"))
    assert expander.expand(TEXTS) == [pytest.approx(largest_of_each_token(text), rel=1e-5) for text in TEXTS]


@pytest.mark.parametrize("pools_inside", [False, True])
def test_a_manifest_cannot_make_a_masked_lm_head_a_token_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pools_inside: bool
) -> None:
    monkeypatch.setattr(providers, "_GPU_DEVICES", {CPU: "cpu"})
    bundle = write_token_head_bundle(tmp_path / "bundle")
    SmallGraph().save(bundle / "doc.onnx", pools_inside=pools_inside)
    change_manifest(bundle, files=records(bundle, "tokenizer.json", "doc.onnx"))
    with pytest.raises(ModelFilesError, match=rf"doc\.onnx gives {len(TOKENS)} numbers.*token head") as raised:
        Expander(bundle).expand("the cat")
    assert (raised.value.expected, raised.value.found) == (1, len(TOKENS))


def test_a_manifest_cannot_make_a_token_head_a_masked_lm_head(tmp_path: Path) -> None:
    bundle = write_token_head_bundle(tmp_path / "bundle")
    change_manifest(bundle, roles={"doc": graph_role("doc.onnx", 32), "query": graph_role("doc.onnx", 32)})
    with pytest.raises(ModelFilesError, match=rf"weighs 1 tokens, but its tokenizer has {len(TOKENS)}"):
        Expander(bundle).expand("the cat")


def test_a_token_head_that_hides_its_shape_is_found_out(tmp_path: Path) -> None:
    bundle = write_token_head_bundle(tmp_path / "bundle")
    made = onnx.load(SmallGraph().save(bundle / "doc.onnx"))
    made.graph.node[-1].output[0] = "all"
    made.graph.node.append(onnx.helper.make_node("Shape", ["input_ids"], ["length"], start=1))
    made.graph.node.append(onnx.helper.make_node("Slice", ["all", "first", "length", "last"], ["logits"]))
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "first"))
    made.graph.output[0].type.tensor_type.shape.dim[2].dim_param = "some"
    onnx.save(made, bundle / "doc.onnx")
    change_manifest(bundle, files=records(bundle, "tokenizer.json", "doc.onnx"))
    with pytest.raises(ModelFilesError, match=r"for 4 tokens has the shape \(1, 4, 4\), not \(1, 4, 1\)"):
        Expander(bundle).expand("the cat")
