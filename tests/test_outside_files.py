"""Changes every field of every file of small models: each time the model loads and gives weights, or an error says why.

No other outcome is allowed: no other exception, no weight that is not finite, no endless wait.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spladerunner import Expander, SpladeRunnerError
from spladerunner.model.manifest import TokenWeightsRole
from tests.small_model import (
    SYMMETRIC,
    TOKENS,
    change_manifest,
    graph_role,
    move_weights,
    records,
    write_bare_folder,
    write_bundle,
)

PARTS = "sentence_transformers.sparse_encoder.models."

ROUTER = {
    "types": {
        "": PARTS + "MLMTransformer",
        "1_SpladePooling": PARTS + "SpladePooling",
        "query_0_SparseStaticEmbedding": PARTS + "SparseStaticEmbedding",
    },
    "structure": {"document": ["", "1_SpladePooling"], "query": ["query_0_SparseStaticEmbedding"]},
    "parameters": {"default_route": "document", "allow_empty_key": True},
}
POOLING = {"pooling_strategy": "sum", "activation_function": "log1p_relu", "word_embedding_dimension": len(TOKENS)}
FILES: dict[str, Any] = {
    "config.json": {"max_position_embeddings": 40, "model_type": "roberta", "pad_token_id": 1},
    "tokenizer_config.json": {"model_max_length": 32},
    "sentence_bert_config.json": {"max_seq_length": 24, "do_lower_case": False},
    "config_sentence_transformers.json": {
        "prompts": {"query": "run: ", "document": "the "},
        "default_prompt_name": None,
        "similarity_fn_name": "dot",
    },
    "1_SpladePooling/config.json": POOLING,
}


def write_json(folder: Path, files: dict[str, Any]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


def safetensors(weights: np.ndarray) -> bytes:
    """One tensor in the format of safetensors, written by its description."""
    tensor = {"dtype": "F32", "shape": list(weights.shape), "data_offsets": [0, weights.nbytes]}
    header = json.dumps({"weight": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + weights.astype("<f4").tobytes()


def write_models(folder: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Small models of every layout, and the options of Expander for each."""
    bundle = write_bundle(folder / "bundle")
    move_weights(bundle / "doc.onnx")
    np.save(bundle / "query.npy", np.ones(len(TOKENS), dtype=np.float32))
    change_manifest(
        bundle,
        roles={
            "doc": replace(graph_role("doc.onnx", 32), external_data=("doc.onnx_data",)),
            "query": TokenWeightsRole("query.npy", 16),
        },
        files=records(bundle, "tokenizer.json", "doc.onnx", "doc.onnx_data", "query.npy"),
    )
    symmetric = write_bare_folder(folder / "symmetric")
    modules = [
        {"path": "", "type": PARTS + "MLMTransformer"},
        {"path": "1_SpladePooling", "type": PARTS + "SpladePooling"},
    ]
    write_json(symmetric, {**FILES, "modules.json": modules})
    asymmetric = write_bare_folder(folder / "asymmetric")
    write_json(
        asymmetric, {**FILES, "modules.json": [{"path": "", "type": PARTS + "Router"}], "router_config.json": ROUTER}
    )
    (asymmetric / "query_0_SparseStaticEmbedding").mkdir()
    (asymmetric / "query_0_SparseStaticEmbedding" / "model.safetensors").write_bytes(
        safetensors(np.ones(len(TOKENS), dtype=np.float32))
    )
    idf = write_bare_folder(folder / "idf")
    write_json(idf, {"config.json": FILES["config.json"], "idf.json": {"the": 0.5, "cat": 3, "[CLS]": 1.0}})
    return {
        "bundle": (bundle, {}),
        "symmetric": (symmetric, {}),
        "asymmetric": (asymmetric, {}),
        "idf": (idf, {**SYMMETRIC, "query": None}),
    }


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    return write_models(tmp_path_factory.mktemp("models"))


LAYOUTS = ["bundle", "symmetric", "asymmetric", "idf"]


def outcome(folder: Path, options: dict[str, Any]) -> str:
    """What happens: "error", or "weights" after a document and a query got theirs."""
    try:
        expander = Expander(folder, threads=1, **options)
        expander.fingerprint  # noqa: B018
        found = [expander.expand(["the cat sat", ""]), expander.expand_query(["the cat", ""])]
    except SpladeRunnerError as error:
        str(error).encode("utf-8")  # can be printed
        return "error"
    for documents in found:
        assert documents[1] == {}
        assert all(math.isfinite(weight) and weight > 0 for weights in documents for weight in weights.values())
    return "weights"


def places(content: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys of every value, but of at most four entries of a long object."""
    entries = list(
        content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    )
    for key, value in entries if len(entries) < 20 else entries[:4]:
        yield (*keys, key)
        yield from places(value, (*keys, key))


HOSTILE: list[Any] = [
    *(None, True, False, 0, 1, -1, 7, 2**31, 2**63, 10**30, 10**400),
    *(0.5, -0.5, 1e308, -1e308, math.nan, math.inf, -math.inf),
    *("", "max", "mean", "SUM", "..", "../other", "/etc/passwd", "C:x", "a\\b", "nul\0", "\ud800", "x" * 10_000),
    *("(a+)+$", "("),
    *([], [7], [[]], {}, {"": 7}, {"weight": {}}, {"type": "Split"}),
]
"""Values of every kind of JSON, and those that have misled some program."""


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@given(data=st.data())
@settings(
    deadline=None,
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_any_value_at_any_key_of_any_json_file(
    models: dict[str, tuple[Path, dict[str, Any]]], layout: str, data: st.DataObject
) -> None:
    folder, options = models[layout]
    path = data.draw(st.sampled_from(sorted(folder.rglob("*.json"))), label="file")
    before = path.read_bytes()
    content = copy.deepcopy(json.loads(before))
    *keys, last = data.draw(st.sampled_from(list(places(content))), label="place")
    parent = content
    for key in keys:
        parent = parent[key]
    change = data.draw(st.sampled_from(["delete", "add", "replace", "replace", "twice"]), label="change")
    value = data.draw(st.sampled_from(HOSTILE), label="value")
    if change == "delete":
        del parent[last]
    elif change == "add" and isinstance(parent, dict):
        parent["unknown"] = value
    else:
        parent[last] = value
    text = json.dumps(content)
    if change == "twice" and isinstance(last, str):
        text = text.replace(json.dumps(last) + ":", f"{json.dumps(last)}: 7, {json.dumps(last)}:", 1)
    path.write_text(text, encoding="utf-8")
    try:
        outcome(folder, options)
    finally:
        path.write_bytes(before)
