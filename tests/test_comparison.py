"""Vectors of other systems: right ones agree, and each known mistake is named by its words."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from spladerunner import Comparison, Expander, SparseVector, compare, comparison
from spladerunner.inference.session import LARGEST_LOGITS
from spladerunner.mistakes import Reading
from spladerunner.model.bundle import TOKENIZER
from spladerunner.model.manifest import MANIFEST, GraphRole, Manifest
from tests.small_model import (
    SPECIAL,
    TOKENS,
    SmallGraph,
    change_manifest,
    graph_role,
    records,
    tokenizer,
    write_bare_folder,
    write_bundle,
    write_token_head_bundle,
)

TEXTS = ["the cat sat on the mat", "the dog sat on the river bank", "money, money!", "run to the river", "a bank"]
LONG = "the cat sat on the mat " * 5 + "the dog, naïve, banks money 5 times: run! " * 4

Weigh = Callable[[NDArray[np.float32]], NDArray[Any]]


def log1p_relu(logits: NDArray[np.float32]) -> NDArray[Any]:
    weights: NDArray[Any] = np.log(1 + np.where(logits > 0, logits, 0))
    return weights


def softplus(logits: NDArray[np.float32]) -> NDArray[Any]:
    weights: NDArray[Any] = np.log(1 + np.exp(logits.astype(np.float64)))
    return weights


def made_by(weigh: Weigh, texts: list[str] = TEXTS, *, length: int = 32, seed: int = 1) -> list[dict[str, float]]:
    """Vectors of another system, from the logits (L, V) of the small graph in NumPy, without special tokens."""
    return [
        {
            token: float(weight)
            for token, weight in zip(TOKENS, weigh(SmallGraph(seed=seed).logits(ids_of(text, length))), strict=True)
            if weight > 0 and token not in SPECIAL
        }
        for text in texts
    ]


def ids_of(text: str, length: int) -> list[int]:
    made = tokenizer()
    made.enable_truncation(length)
    ids: list[int] = made.encode(text).ids
    return ids


def right(logits: NDArray[np.float32]) -> NDArray[Any]:
    weights: NDArray[Any] = log1p_relu(logits).max(axis=0)
    return weights


POSITION = (
    "The weights are those of position 0 alone, not the maximum over all positions. Elasticsearch does so with such "
    "models (elastic/eland#827)."
)
NO_LOGARITHM = "A logarithm is missing: relu(x), not log(1 + relu(x))."
SOFTPLUS = "The activation is a softplus: log(1 + exp(x)), not log(1 + relu(x))."

MISTAKES: list[tuple[Weigh, list[str]]] = [
    (lambda logits: log1p_relu(logits[0]), [POSITION]),
    (lambda logits: logits[0], [POSITION, NO_LOGARITHM]),  # what Elasticsearch does, which keeps scores above 0
    (
        lambda logits: log1p_relu(logits[-1]),
        ["The weights are those of the last position alone, not the maximum over all positions."],
    ),
    (lambda logits: softplus(logits).max(axis=0), [SOFTPLUS]),
    (
        lambda logits: np.log(1 + softplus(logits)).max(axis=0),
        ["The activation is a softplus: log(1 + log(1 + exp(x))), not log(1 + relu(x))."],
    ),
    (lambda logits: logits.max(axis=0), [NO_LOGARITHM]),
    (
        lambda logits: np.log(1 + right(logits)),
        ["A logarithm is taken once more: log(1 + log(1 + relu(x))), not log(1 + relu(x))."],
    ),
    (
        lambda logits: log1p_relu(logits).sum(axis=0),
        ["The weights are those of the sum over all positions, not the maximum over all positions."],
    ),
    (
        lambda logits: log1p_relu(logits).mean(axis=0),
        ["The weights are those of the mean over all positions, not the maximum over all positions."],
    ),
    (lambda logits: 0.25 * right(logits), ["Each weight is 0.25 times the model's."]),
    (lambda logits: np.round(100 * right(logits)), ["Each weight is 100 times the model's."]),
    (lambda logits: 3 * softplus(logits[0]), [POSITION, SOFTPLUS, "Each weight is 3 times the model's."]),
    (
        lambda logits: np.where(right(logits) >= np.sort(right(logits))[-8], right(logits), 0),
        ["Only the heaviest weights of each text are kept."],
    ),
]


@pytest.fixture
def pair(bundle: Path) -> Expander:
    return Expander(bundle)


@pytest.mark.parametrize(("weigh", "findings"), MISTAKES)
def test_a_mistake_is_named(pair: Expander, weigh: Weigh, findings: list[str]) -> None:
    found = compare(pair, TEXTS, made_by(weigh))
    assert list(found.findings) == findings
    assert not found.agrees and found.residual < 0.01


@pytest.mark.parametrize(("weigh", "findings"), MISTAKES)
def test_a_mistake_is_named_although_the_weights_are_not_exact(
    pair: Expander, weigh: Weigh, findings: list[str]
) -> None:
    random = np.random.default_rng(0)
    given = [
        {token: weight * (1 + random.uniform(-0.05, 0.05)) for token, weight in vector.items()}
        for vector in made_by(weigh)
    ]
    found = compare(pair, TEXTS, given)
    assert list(map(without_factor, found.findings)) == list(map(without_factor, findings))
    assert not found.agrees and found.residual < 0.1


def without_factor(finding: str) -> str:
    return re.sub(r"is [\d.]+ times", "is … times", finding)


def test_right_vectors_agree(pair: Expander) -> None:
    found = compare(pair, TEXTS, made_by(right))
    assert found.agrees and found.findings == () and found.residual < 0.001
    assert found.worst_cosine > 0.99999 and found.missing == found.extra == {}
    random = np.random.default_rng(0)
    given = [
        {token: weight * (1 + random.uniform(-0.1, 0.1)) for token, weight in vector.items()}
        for vector in made_by(right)
    ]
    assert compare(pair, TEXTS, given).agrees


def test_queries_are_compared_with_the_query_model(pair: Expander) -> None:
    given = made_by(right, seed=2)
    assert compare(pair, TEXTS, given, role="query").agrees
    found = compare(pair, TEXTS, given)
    assert found.findings == ("The model is that for queries, not for documents.",) and not found.agrees


@pytest.mark.parametrize(
    ("own", "other", "finding"),
    [
        (64, 32, "Texts are cut at 32 tokens, not at 64."),
        (32, 64, "More than 32 tokens of a text are read."),
        (32, 512, "More than 32 tokens of a text are read."),
    ],
)
def test_another_length_is_named(tmp_path: Path, own: int, other: int, finding: str) -> None:
    role = replace(graph_role("doc.onnx", own), positions=512)
    bundle = write_bundle(tmp_path / "bundle", roles={"doc": role, "query": role})
    texts = [*TEXTS, LONG, f"dog {LONG}"]
    found = compare(Expander(bundle), texts, made_by(right, texts, length=other))
    assert found.findings == (finding,) and found.residual < 0.001
    assert found.worst_cosine < found.mean_cosine < 1 and found.worst_text in texts[-2:]


def test_special_tokens_are_named_and_otherwise_left_out(pair: Expander) -> None:
    given = [{**vector, "[CLS]": 2.0, "[SEP]": 1.0} for vector in made_by(right)]
    found = compare(pair, TEXTS, given)
    assert found.findings == ("Special tokens are left in: [CLS], [SEP].",)
    assert not found.agrees and found.mean_cosine > 0.99999


def test_tokens_of_another_vocabulary_are_named(pair: Expander) -> None:
    given = [{**vector, "atom": 2.0} for vector in made_by(right)]
    found = compare(pair, TEXTS, given)
    assert found.findings == ("Tokens are not in the model's vocabulary: atom.",) and not found.agrees
    beyond = [SparseVector([len(TOKENS) + number], [1.0]) for number in range(5)]
    assert compare(pair, TEXTS, beyond).findings[0] == (
        f"Tokens are not in the model's vocabulary: {len(TOKENS)}, {len(TOKENS) + 1}, {len(TOKENS) + 2} and 2 more."
    )


def test_what_nothing_explains_is_said_so(pair: Expander) -> None:
    found = compare(pair, TEXTS, made_by(right, seed=7))
    assert found.findings == () and not found.agrees and found.mean_cosine < 0.9


def test_one_text_that_differs_is_enough(pair: Expander) -> None:
    given = made_by(right)
    given[2] = made_by(right, ["the dog"])[0]
    found = compare(pair, TEXTS, given)
    assert not found.agrees and found.worst_text == TEXTS[2] and found.worst_cosine < 0.99


def test_missing_and_extra_tokens_have_their_mean_weight(pair: Expander) -> None:
    (vector,) = made_by(right, ["the cat"])
    heavy, light = sorted(vector, key=vector.__getitem__)[-1], sorted(vector, key=vector.__getitem__)[0]
    without = {token: weight for token, weight in vector.items() if token not in (heavy, light)}
    absent = next(token for token in TOKENS if token not in vector and token not in SPECIAL)
    found = compare(pair, ["the cat", "the cat"], [vector, {**without, absent: 3.0}])
    assert list(found.missing) == [heavy, light] and list(found.extra) == [absent]
    assert found.missing[heavy] == pytest.approx(vector[heavy] / 2, rel=1e-5)
    assert found.extra == {absent: 1.5}
    assert (found.weights, found.own_weights) == (len(vector) - 0.5, len(vector))


def test_vectors_without_weights(pair: Expander) -> None:
    assert compare(pair, ["", "the cat"], [{}, made_by(right, ["the cat"])[0]]).agrees
    nothing = compare(pair, TEXTS, [{} for _ in TEXTS])
    assert not nothing.agrees and nothing.mean_cosine == 0 and nothing.findings == ()
    assert not compare(pair, [""], [{"cat": 1.0}]).agrees


def test_tokens_may_be_spelled_as_elasticsearch_stores_them(pair: Expander) -> None:
    given = [{token.replace(".", "%2E"): weight for token, weight in vector.items()} for vector in made_by(right)]
    assert any("%2E" in vector for vector in given)
    assert compare(pair, TEXTS, given).agrees


def test_indices_are_compared_too(pair: Expander) -> None:
    assert compare(pair, TEXTS, pair.encode(TEXTS)).agrees
    halved = [SparseVector(vector.indices, vector.values / 2) for vector in pair.encode(TEXTS)]
    assert compare(pair, TEXTS, halved).findings == ("Each weight is 0.5 times the model's.",)


@pytest.fixture
def largest_alone(tmp_path: Path) -> Expander:
    """A graph that gives the largest logits over the positions, as an export makes for long texts."""
    bundle = write_bundle(tmp_path / "largest")
    model = onnx.load(bundle / "doc.onnx")
    model.graph.node.append(helper.make_node("ReduceMax", ["logits", "middle"], [LARGEST_LOGITS], keepdims=1))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(LARGEST_LOGITS, TensorProto.FLOAT, [1, 1, len(TOKENS)]))
    onnx.save(model, bundle / "doc.onnx")
    changed = write_bundle(tmp_path / "bundle", files=records(bundle, TOKENIZER, "doc.onnx", "query.onnx"))
    (bundle / "doc.onnx").replace(changed / "doc.onnx")
    return Expander(changed)


@pytest.mark.parametrize("number", [3, 4, 5, 6, 9])
def test_the_largest_logits_show_another_activation(largest_alone: Expander, number: int) -> None:
    weigh, findings = MISTAKES[number]
    assert list(compare(largest_alone, TEXTS, made_by(weigh)).findings) == findings


def test_the_largest_logits_show_no_position(largest_alone: Expander) -> None:
    found = compare(largest_alone, TEXTS, made_by(MISTAKES[0][0]))
    assert not found.agrees and found.findings == ()
    assert compare(largest_alone, TEXTS, made_by(right)).agrees


@pytest.mark.parametrize("number", [3, 5, 6, 9])
def test_weights_alone_show_another_activation(tmp_path: Path, number: int) -> None:
    expander = Expander(write_bare_folder(tmp_path, pools_inside=True), 32, activation="log1p_relu", query="model")
    weigh, findings = MISTAKES[number]
    found = compare(expander, TEXTS, made_by(weigh, seed=0))
    assert list(found.findings) == findings and found.residual < 0.01
    assert compare(expander, TEXTS, made_by(right, seed=0)).agrees


def test_queries_without_a_model_have_a_factor_too(tmp_path: Path) -> None:
    expander = Expander(write_bare_folder(tmp_path), pooling="max", activation="log1p_relu", query="ones")
    tokens = [dict.fromkeys(expander.own_tokens(text, role="query"), 1.0) for text in TEXTS]
    assert compare(expander, TEXTS, tokens, role="query").agrees
    twice = [dict.fromkeys(vector, 2.0) for vector in tokens]
    assert compare(expander, TEXTS, twice, role="query").findings == ("Each weight is 2 times the model's.",)


def test_a_token_head_shows_another_activation_and_a_factor(tmp_path: Path) -> None:
    expander = Expander(write_token_head_bundle(tmp_path / "bundle"))
    texts = [text for text in TEXTS if len(expander.expand(text)[0]) > 1]
    weights = expander.expand(texts)
    assert texts and compare(expander, texts, weights).agrees
    halved = [{token: weight / 2 for token, weight in vector.items()} for vector in weights]
    assert compare(expander, texts, halved).findings == ("Each weight is 0.5 times the model's.",)
    logarithms = [{token: math.log(1 + weight) for token, weight in vector.items()} for vector in weights]
    assert compare(expander, texts, logarithms).findings == (
        "A logarithm is taken once more: log(1 + relu(x)), not relu(x).",
    )


@pytest.mark.parametrize(
    ("texts", "vectors", "message"),
    [
        ([], [], "there are 0 vectors for 0 texts"),
        (["a", "b"], [{}], "there are 1 vectors for 2 texts"),
        (["a"], [{"cat": float("nan")}], "the weight of 'cat' is nan, which is not finite"),
    ],
)
def test_bad_arguments(pair: Expander, texts: list[str], vectors: list[dict[str, float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(pair, texts, vectors)


def test_the_embedded_pair_agrees_with_itself_and_not_with_position_0() -> None:
    expander = Expander()
    texts = ["The Manhattan Project and its atomic bomb", "A river bank is where the trout are"]
    found: Comparison = compare(expander, texts, expander.expand(texts))
    assert found.agrees and found.residual == 0
    assert found.texts == 2 and found.weights == found.own_weights


@pytest.fixture
def lexical(tmp_path: Path) -> Expander:
    """One graph for both roles; queries keep only their own tokens."""
    folder = write_bundle(tmp_path / "lexical")
    role = Manifest.read(folder / MANIFEST).roles["doc"]
    assert isinstance(role, GraphRole)
    change_manifest(folder, roles={"doc": role, "query": replace(role, lexical=True)})
    return Expander(folder)


def own_tokens(vectors: list[dict[str, float]]) -> list[dict[str, float]]:
    """Only the tokens of the text of each vector."""
    return [
        {token: weight for token, weight in vector.items() if TOKENS.index(token) in ids_of(text, 32)}
        for text, vector in zip(TEXTS, vectors, strict=True)
    ]


def test_queries_that_are_expanded_where_the_model_keeps_their_tokens(lexical: Expander) -> None:
    assert compare(lexical, TEXTS, own_tokens(made_by(right)), role="query").agrees
    found = compare(lexical, TEXTS, made_by(right), role="query")
    assert found.findings == ("Texts are expanded; the model's vectors keep only the tokens of the text.",)
    assert found.residual < 0.01


def test_another_pooling_of_lexical_queries_is_named(lexical: Expander) -> None:
    first = own_tokens(made_by(lambda logits: log1p_relu(logits)[0]))
    assert compare(lexical, TEXTS, first, role="query").findings == (POSITION,)


def test_each_reading_reads_other_tokens_of_a_text() -> None:
    readings = list(comparison._readings(Expander(max_length=8), Reading("doc", 8), ["the cat sat " * 6]))
    assert [reading.max_length for reading in readings if reading.role == "doc"] == [8, 32]


@pytest.mark.parametrize(("count", "kept"), [(0, [1, 2, 3]), (1, [3]), (2, [2, 3]), (3, [1, 2, 3]), (9, [1, 2, 3])])
def test_the_heaviest_weights_are_kept(count: int, kept: list[int]) -> None:
    found = comparison._heaviest(np.array([1, 0, 3, 2], np.float32), count)
    assert sorted(found[found > 0].tolist()) == kept


@pytest.mark.parametrize("pooling", ["sum", "max"])
def test_the_formula_is_that_of_the_role(bundle: Path, pooling: str) -> None:
    roles = Manifest.read(bundle / MANIFEST).roles
    kept = {name: role for name, role in roles.items() if isinstance(role, GraphRole)}
    change_manifest(bundle, roles={name: replace(role, pooling=pooling) for name, role in kept.items()})
    assert comparison._formula(Expander(bundle), "doc") == (pooling, "log1p_relu")
