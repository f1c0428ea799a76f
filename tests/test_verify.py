"""The export's gate: figures worked by hand, from graphs whose weights are written here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from spladerunner.export.checkpoint import Checkpoint
from spladerunner.export.passes import Graph
from spladerunner.export.token_weights import TokenWeights
from spladerunner.export.verify import GraphVerifier, cosine, measure_copy, shortfalls
from spladerunner.inference.encoder import TokenWeightsEncoder
from spladerunner.inference.tokenizer import Tokenizer
from spladerunner.model.provenance import CopyAgreement, GraphAgreement
from tests.small_model import TOKENS, tokenizer

Weights = dict[str, float]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
DESCENDING = {letter: 26.0 - place for place, letter in enumerate(LETTERS)}
"""26 weights, of which a to t are the 20 heaviest."""


def dense(weights: Weights) -> NDArray[np.float32]:
    row = np.zeros(len(TOKENS), dtype=np.float32)
    for token, weight in weights.items():
        row[TOKENS.index(token)] = weight
    return row


def save_graph(path: Path, weights_of: dict[str, Weights], *, padding: int = 0) -> Graph:
    """A graph that gives each one-word text the weights that are written for the word."""
    rows = np.zeros((len(TOKENS), len(TOKENS)), dtype=np.float32)
    for word, weights in weights_of.items():
        rows[TOKENS.index(word)] = dense(weights)
    nodes = [
        helper.make_node("Gather", ["rows", "input_ids"], ["each"]),
        helper.make_node("ReduceMax", ["each", "middle"], ["weights"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "written",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["B", "L"])],
        [helper.make_tensor_value_info("weights", TensorProto.FLOAT, ["B", len(TOKENS)])],
        [numpy_helper.from_array(rows, "rows"), numpy_helper.from_array(np.array([1]), "middle")],
        doc_string="x" * padding,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return Graph(path)


class Published:
    """A checkpoint, or token weights, whose published formula gives what is written."""

    head, pooling, activation, max_length = "masked_lm", "max", "log1p_relu", 16

    def __init__(self, weights_of: dict[str, Weights]) -> None:
        self._weights_of = weights_of

    def weights_of(self, texts: Iterable[str], max_length: int) -> Iterator[NDArray[np.float32]]:
        return (dense(self._weights_of.get(text, {})) for text in texts)


@pytest.fixture
def small(tmp_path: Path) -> Tokenizer:
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    return Tokenizer(tmp_path / "tokenizer.json")


def measure(
    folder: Path,
    small: Tokenizer,
    published: dict[str, Weights],
    converted: dict[str, Weights],
    made: dict[str, Weights],
) -> GraphAgreement:
    graph, made_graph = (
        save_graph(folder / "converted.onnx", converted, padding=500),
        save_graph(folder / "m.onnx", made),
    )
    verifier = GraphVerifier(cast(Checkpoint, Published(published)), graph, small, list(published))
    found = verifier.measure(made_graph.path)
    assert (found.fp32_bytes, found.bytes) == (graph.path.stat().st_size, made_graph.path.stat().st_size)
    assert found.fp32_bytes > found.bytes
    return found


def test_the_figures_of_a_graph(tmp_path: Path, small: Tokenizer) -> None:
    published = {"cat": {"the": 3.0, "cat": 4.0}, "river": {"bank": 1.0}, "dog": {"the": 3.0, "cat": 4.0}, "x": {}}
    converted = {**published, "cat": {"the": 3.25, "cat": 4.0}, "dog": {"the": 3.0, "cat": 3.5}}
    made = {
        "cat": {"the": 6.0, "cat": 8.0},
        "river": {"bank": 2.0, "mat": 1.0, "on": 1.0},
        "dog": {"the": 4.0, "cat": 3.0},
    }
    found = measure(tmp_path, small, published, converted, made)
    assert found.texts == 4
    assert found.fp32_largest_difference == 0.5  # a weight too small, which counts as much as one too large by 0.25
    assert found.worst_cosine == pytest.approx(2 / math.sqrt(6)) and found.worst_text == "river"
    assert found.mean_cosine == pytest.approx((1 + 2 / math.sqrt(6) + 24 / 25 + 1) / 4)
    assert found.mean_weights == (2 + 3 + 2 + 0) / 4
    assert found.mean_shared_top20 == pytest.approx((1 + 1 + 1) / 3)  # the text without weights has no share


def test_the_20_heaviest_tokens_are_compared(tmp_path: Path, small: Tokenizer) -> None:
    lost = {letter: weight for letter, weight in DESCENDING.items() if letter not in "cfj"}  # three of the 20 heaviest
    published = {"cat": DESCENDING, "dog": {"the": 2.0, "on": 1.0}}
    made = {"cat": lost, "dog": {"the": 2.0, "mat": 1.5, "on": 1.0}}
    found = measure(tmp_path, small, published, published, made)
    assert found.fp32_largest_difference == 0
    assert found.mean_shared_top20 == pytest.approx((17 / 20 + 1 / 2) / 2)


def test_a_long_text_is_cut_in_the_report(tmp_path: Path, small: Tokenizer) -> None:
    published = {"cat": {"cat": 1.0}, "cat " + "the " * 40: {"dog": 1.0}}
    found = measure(tmp_path, small, published, {}, {"cat": {"cat": 1.0}})
    assert found.worst_cosine == 0 and found.worst_text == ("cat " + "the " * 40)[:60]


def test_the_figures_of_token_weights(tmp_path: Path, small: Tokenizer) -> None:
    saved = np.zeros(len(TOKENS), dtype=np.float32)
    saved[[TOKENS.index(token) for token in ("cat", "dog", "river")]] = 2.0, 1.0, 4.0
    published = {"cat": {"cat": 2.25}, "dog river": {"dog": 1.0, "river": 4.75}, "river": {"river": 3.5}, "": {}}
    source = cast(TokenWeights, Published(published))
    encoder = TokenWeightsEncoder(tmp_path / "query.npy", saved, small.vocabulary)
    found = measure_copy(source, encoder, small, list(published), max_length=16, size=212)
    assert found.texts == 4 and found.largest_difference == 0.75  # too small, and neither first nor last
    assert found.mean_weights == (1 + 2 + 1 + 0) / 4
    assert found.bytes == 212


GOOD = GraphAgreement(
    texts=276,
    fp32_largest_difference=1e-4,
    worst_cosine=0.99,
    worst_text="cat",
    mean_cosine=0.999,
    mean_shared_top20=0.90,
    mean_weights=100.0,
    fp32_ms=2.0,
    ms=1.0,
    fp32_bytes=2000,
    bytes=1000,
)


def test_a_graph_at_the_limits_does_not_fall_short() -> None:
    assert shortfalls(GOOD) == []


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("fp32_largest_difference", 1.1e-4, "the float32 graph's largest difference 0.00011 is above 1e-04"),
        ("worst_cosine", 0.9899, "the worst cosine 0.9899 is below 0.99 (for 'cat')"),
        ("mean_shared_top20", 0.899, "the mean share of top-20 tokens 89.9% is below 90%"),
    ],
)
@pytest.mark.parametrize("is_number", [True, False])
def test_each_limit_is_enough_to_fall_short(field: str, value: float, message: str, is_number: bool) -> None:
    (found,) = shortfalls(replace(GOOD, **{field: value if is_number else math.nan}))  # type: ignore[arg-type]
    assert found == message if is_number else "nan" in found


def test_float16_is_held_to_more_than_int8() -> None:
    between = replace(GOOD, worst_cosine=0.995, mean_shared_top20=0.95)
    assert shortfalls(between, "cpu") == []
    cosine_, top20 = shortfalls(between, "cuda")
    assert "0.9950 is below 0.999" in cosine_ and "95.0% is below 99%" in top20
    assert shortfalls(replace(GOOD, worst_cosine=0.999, mean_shared_top20=0.99), "cuda") == []


def test_all_shortfalls_are_named() -> None:
    found = shortfalls(replace(GOOD, fp32_largest_difference=1.0, worst_cosine=0.5, mean_shared_top20=0.1))
    assert [each.split(" ")[1] for each in found] == ["float32", "worst", "mean"]


def test_token_weights_may_differ_by_a_rounding_only() -> None:
    measured = CopyAgreement(texts=3, largest_difference=1e-4, mean_weights=2.0, ms=0.1, bytes=9)
    assert shortfalls(measured) == []
    (found,) = shortfalls(replace(measured, largest_difference=1.1e-4))
    assert found == "the largest difference from the source 0.00011 is above 1e-04"
    assert len(shortfalls(replace(measured, largest_difference=math.nan))) == 1


def test_the_cosine_of_two_vectors() -> None:
    def of(first: list[float], second: list[float]) -> float:
        return cosine(np.array(first, dtype=np.float32), np.array(second, dtype=np.float32))

    assert of([3, 4], [4, 3]) == pytest.approx(24 / 25)
    assert of([3, 4], [30, 40]) == pytest.approx(1)
    assert of([0, 0], [0, 0]) == 1
    assert of([0, 0], [0, 1]) == of([2, 0], [0, 0]) == of([2, 0], [0, 1]) == 0
