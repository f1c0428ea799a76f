"""Folders without a manifest: what lies beside the graph says how to run it, and nothing is guessed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spladerunner import Expander, ModelFilesError
from spladerunner.model.bare_folder import Interpretation
from spladerunner.model.bundle import Bundle
from spladerunner.model.manifest import MANIFEST, GraphRole, Manifest, TokenWeightsRole
from spladerunner.model.token_weights import ONES
from spladerunner.model.transformers_files import read_max_length, read_tokenizer_length
from tests.small_model import (
    SPECIAL,
    SYMMETRIC,
    TOKENS,
    SmallGraph,
    change_manifest,
    expected_weights,
    graph_role,
    write_bare_folder,
    write_bundle,
)
from tests.test_outside_files import FILES, PARTS, POOLING, ROUTER, safetensors, write_json

CAT = [TOKENS.index(token) for token in ("[CLS]", "the", "cat", "[SEP]")]


def test_what_the_files_leave_open_is_an_error_that_names_the_options(tmp_path: Path) -> None:
    folder = write_bare_folder(tmp_path)
    needed = "pooling= or --pooling, one of max, sum; activation= or --activation, one of .*; query= or --queries, one"
    with pytest.raises(ModelFilesError, match=needed) as raised:
        Expander(folder)
    assert raised.value.path == folder and raised.value.expected == ["pooling", "activation", "query"]
    for option in SYMMETRIC:
        with pytest.raises(ModelFilesError, match="does not say how to run it") as raised:
            Expander(folder, **{**SYMMETRIC, option: None})
        assert raised.value.expected == [option]


def test_options_say_how_to_run_it(tmp_path: Path) -> None:
    folder = write_bare_folder(tmp_path)
    logits = SmallGraph().logits(CAT).astype(np.float64)
    expected = {
        ("max", "log1p_relu"): np.log1p(np.maximum(logits, 0)).max(axis=0),
        ("sum", "log1p_relu"): np.log1p(np.maximum(logits, 0)).sum(axis=0),
        ("max", "log1p_log1p_relu"): np.log1p(np.log1p(np.maximum(logits, 0))).max(axis=0),
        ("max", "relu"): np.maximum(logits, 0).max(axis=0),
    }
    for (pooling, activation), weights in expected.items():
        expander = Expander(folder, pooling=pooling, activation=activation, query="ones")
        published = {t: w for t, w in zip(TOKENS, weights, strict=True) if w > 0 and t not in SPECIAL}
        assert expander.expand("the cat")[0] == pytest.approx(published, rel=1e-5)
        assert expander.expand_query("the cat the")[0] == {"the": 1.0, "cat": 1.0}


def test_a_graph_that_has_pooled_inside_leaves_only_queries_open(tmp_path: Path) -> None:
    folder = write_bare_folder(tmp_path, pools_inside=True)
    with pytest.raises(ModelFilesError) as raised:
        Expander(folder)
    assert raised.value.expected == ["query"]
    found = Expander(folder, query="model").expand("the cat")[0]
    assert found == pytest.approx(expected_weights(SmallGraph().logits(CAT)), abs=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"pooling": "mean"}, {"pooling": "SUM"}, {"activation": "softplus"}, {"query": "same"}]
)
def test_an_unknown_option_is_an_error(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is not known: it must be one of"):
        Expander(write_bare_folder(tmp_path), **{**SYMMETRIC, **wrong})


@pytest.mark.parametrize("given", [{"pooling": "max"}, {"activation": "relu"}, {"query": "model"}])
def test_options_must_not_contradict_modules_json(tmp_path: Path, given: dict[str, Any]) -> None:
    folder = write_bare_folder(tmp_path)
    write_symmetric_layout(folder)
    with pytest.raises(ModelFilesError, match=r"modules\.json says .* leave .* out"):
        Expander(folder, **given)
    assert Expander(folder, pooling="sum", activation="log1p_log1p_relu").expand("the cat") == Expander(folder).expand(
        "the cat"
    )


@pytest.mark.parametrize("given", [{"pooling": "sum"}, {"activation": "relu"}, {"query": "idf"}])
def test_options_must_not_contradict_a_manifest(bundle: Path, given: dict[str, Any]) -> None:
    with pytest.raises(ModelFilesError, match=r"manifest\.json says .* leave .* out"):
        Expander(bundle, **given)
    assert Expander(bundle, pooling="max", activation="log1p_relu").expand("a") == Expander(bundle).expand("a")


def test_options_are_pickled_and_part_of_the_fingerprint(tmp_path: Path) -> None:
    folder = write_bare_folder(tmp_path)
    expander = Expander(folder, **SYMMETRIC)
    again = pickle.loads(pickle.dumps(expander))
    assert again.expand("the cat") == expander.expand("the cat") and again.fingerprint == expander.fingerprint
    others = [{"pooling": "sum"}, {"activation": "relu"}, {"query": "ones"}]
    found = {Expander(folder, **{**SYMMETRIC, **other}).fingerprint for other in others}
    assert len(found | {expander.fingerprint}) == 4


def write_symmetric_layout(folder: Path) -> None:
    modules = [
        {"path": "", "type": PARTS + "MLMTransformer"},
        {"path": "1_SpladePooling", "type": PARTS + "SpladePooling"},
    ]
    write_json(folder, {"modules.json": modules, "1_SpladePooling/config.json": POOLING})


def test_an_idf_json_serves_queries(tmp_path: Path) -> None:
    """As Qdrant publishes OpenSearch's models: a graph and an idf.json, without a word on the activation."""
    folder = write_bare_folder(tmp_path)
    write_json(folder, {"idf.json": {"the": 0.25, "cat": 3, "[CLS]": 9.0}})
    with pytest.raises(ModelFilesError) as raised:
        Expander(folder)
    assert raised.value.expected == ["pooling", "activation"]
    expander = Expander(folder, pooling="max", activation="log1p_log1p_relu")
    assert expander.expand_query("the cat the dog")[0] == {"cat": 3.0, "the": 0.25}
    other = Expander(folder, pooling="max", activation="log1p_log1p_relu", query="ones")
    assert other.expand_query("the cat dog")[0] == {"the": 1.0, "cat": 1.0, "dog": 1.0}
    before = expander.fingerprint
    write_json(folder, {"idf.json": {"the": 0.25, "cat": 3.5}})
    assert Expander(folder, pooling="max", activation="log1p_log1p_relu").fingerprint != before


def test_queries_by_an_idf_json_need_one(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=r"has no idf\.json, which query='idf' reads"):
        Expander(write_bare_folder(tmp_path), **{**SYMMETRIC, "query": "idf"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds .*, which is not an object"),
        ('{"the": "1"}', "has the = '1', which is not a finite number"),
        ('{"the": NaN}', "NaN is not a number of JSON"),
        ('{"the": 1e999}', "has the = inf, which is not a finite number"),
        ('{"the": -1}', "gives the token 'the' the weight -1.0; weights are finite and not negative"),
        ('{"the": 1e39}', "gives the token 'the' the weight inf"),
        ('{"the": 1, "the": 2}', "the key 'the' occurs twice"),
        ('{"nowhere": 1}', "has a weight for 'nowhere', which its tokenizer does not have"),
        ("{", "cannot be read"),
    ],
)
def test_an_idf_json_that_is_none_is_named(tmp_path: Path, content: str, message: str) -> None:
    folder = write_bare_folder(tmp_path)
    (folder / "idf.json").write_text(content)
    with pytest.raises(ModelFilesError, match=rf"idf\.json.*{message}"):
        Expander(folder, pooling="max", activation="relu").expand_query("the")


def cached_snapshot(folder: Path, repository: str) -> Path:
    return write_bare_folder(folder / f"models--{repository.replace('/', '--')}" / "snapshots" / "abc")


def test_known_repositories_say_how_to_run_them(tmp_path: Path) -> None:
    """Those without files of their own on it, by name, wherever the Hub's cache is."""
    splade = Bundle.open(cached_snapshot(tmp_path, "Qdrant/Splade_PP_en_v1"))
    assert splade.roles == {"doc": graph_role("model.onnx", 512), "query": graph_role("model.onnx", 512)}
    gte = cached_snapshot(tmp_path, "Qdrant/opensearch-neural-sparse-encoding-doc-v3-gte")
    with pytest.raises(ModelFilesError) as raised:
        Bundle.open(gte)
    assert raised.value.expected == ["query"]
    write_json(gte, {"idf.json": {"the": 1.0}})
    doc = GraphRole("model.onnx", 512, "max", "log1p_log1p_relu")
    assert Bundle.open(gte).roles == {"doc": doc, "query": TokenWeightsRole("idf.json", 512)}
    assert Bundle.open(gte, Interpretation(query="ones")).roles["query"] == TokenWeightsRole(ONES, 512)
    with pytest.raises(ModelFilesError):
        Bundle.open(cached_snapshot(tmp_path, "somebody/Splade_PP_en_v1"))


def test_a_static_embedding_serves_queries(tmp_path: Path) -> None:
    folder = write_bare_folder(tmp_path)
    write_json(folder, {"modules.json": [{"path": "", "type": PARTS + "Router"}], "router_config.json": ROUTER})
    write_json(folder, {"1_SpladePooling/config.json": POOLING})
    (folder / "query_0_SparseStaticEmbedding").mkdir()
    weights = np.zeros(len(TOKENS), dtype=np.float32)
    weights[[TOKENS.index("cat"), TOKENS.index("[CLS]")]] = 2.5, 7
    path = folder / "query_0_SparseStaticEmbedding" / "model.safetensors"
    path.write_bytes(safetensors(weights))
    assert Expander(folder).expand_query("the cat") == [{"cat": 2.5}]
    path.write_bytes(safetensors(weights[:7]))
    with pytest.raises(ModelFilesError, match=r"model\.safetensors is F32 of shape \[7\], not float32 of shape"):
        Expander(folder).expand_query("the cat")


def test_lengths_are_those_of_the_files(tmp_path: Path) -> None:
    folder = write_bare_folder(tmp_path)
    lengths: list[tuple[dict[str, Any], int]] = [
        ({}, 512),
        ({"config.json": {"max_position_embeddings": 8192}}, 8192),
        ({"tokenizer_config.json": {"model_max_length": 10**30}}, 8192),
        ({"config.json": {"max_position_embeddings": 66, "model_type": "roberta", "pad_token_id": 1}}, 64),
        ({"config.json": {"max_position_embeddings": 66, "model_type": "camembert"}}, 64),
        ({"tokenizer_config.json": {"model_max_length": 48.0}}, 48),
    ]
    for files, expected in lengths:
        write_json(folder, files)
        assert Bundle.open(folder, Interpretation(**SYMMETRIC)).roles["doc"].max_length == expected, files


@pytest.mark.parametrize("wrong", [0, -5, 2.5])
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("tokenizer_config.json", "model_max_length"),
        ("config.json", "max_position_embeddings"),
        ("sentence_bert_config.json", "max_seq_length"),
    ],
)
def test_an_absurd_length_is_named(tmp_path: Path, name: str, key: str, wrong: float) -> None:
    folder = write_bare_folder(tmp_path)
    write_symmetric_layout(folder)
    write_json(folder, {name: {key: wrong}})
    with pytest.raises(ModelFilesError, match=rf"{name} has {key} = {wrong}"):
        Expander(folder)


@pytest.mark.parametrize(("length", "read"), [(2**31, 20), (1e30, 20), (2**31 - 1, 2**31 - 1)])
def test_only_a_length_beyond_all_integers_of_32_bits_is_none(tmp_path: Path, length: float, read: int) -> None:
    """transformers writes 1e30 where a tokenizer has no limit; 20 is the length in config.json."""
    write_json(tmp_path, {"tokenizer_config.json": {"model_max_length": length}})
    assert read_tokenizer_length(tmp_path) == (None if read == 20 else read)
    write_json(tmp_path, {"config.json": {"max_position_embeddings": 20}})
    assert read_max_length(tmp_path) == 20


@pytest.mark.parametrize("length", [1 << 21, 10**30])
def test_an_absurd_length_of_a_manifest_is_named(bundle: Path, length: int) -> None:
    change_manifest(bundle, roles={"doc": graph_role("doc.onnx", length), "query": graph_role("query.onnx", 8)})
    with pytest.raises(ModelFilesError, match=f"reads {length} tokens of a doc text"):
        Expander(bundle)


KINDS: list[Any] = [True, 7, 0.5, "text", [], [7], {}, {"a": 7}]
FIELDS = [
    ("config.json", "max_position_embeddings", int),
    ("config.json", "model_type", str),
    ("config.json", "pad_token_id", int),
    ("tokenizer_config.json", "model_max_length", int | float),
    ("sentence_bert_config.json", "max_seq_length", int),
    ("config_sentence_transformers.json", "prompts", dict),
    ("config_sentence_transformers.json", "default_prompt_name", str),
    ("1_SpladePooling/config.json", "pooling_strategy", str),
    ("1_SpladePooling/config.json", "activation_function", str),
    ("router_config.json", "types", dict),
    ("router_config.json", "structure", dict),
]


@pytest.mark.parametrize(("name", "key", "kind"), FIELDS)
def test_a_field_of_another_kind_is_named(tmp_path: Path, name: str, key: str, kind: type) -> None:
    folder = write_bare_folder(tmp_path)
    write_symmetric_layout(folder)
    files = {**FILES, "router_config.json": ROUTER}
    if name == "router_config.json":
        files["modules.json"] = [{"path": "", "type": PARTS + "Router"}]
    if name == "tokenizer_config.json":  # read where sentence-transformers' file sets no length
        del files["sentence_bert_config.json"]
    for wrong in KINDS:
        if isinstance(wrong, kind) and not isinstance(wrong, bool):
            continue
        write_json(folder, {**files, name: {**files[name], key: wrong}})
        with pytest.raises(ModelFilesError, match=rf"{name} has {key} = .*, which is not") as raised:
            Expander(folder)
        assert raised.value.found == wrong


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ({}, "holds .*, which is not an array"),
        ([7], r"has \[0\] = 7, which is not an object"),
        ([{"path": ""}], r"has no \[0\]\.type"),
        ([{"type": "Router", "path": 7}], r"has \[0\]\.path = 7"),
        ([], r"describes a model of \[\]"),
        ([{"type": "x.Pooling", "path": ""}], r"describes a model of \['Pooling'\]"),
        ([{"type": "x.MLMTransformer", "path": ".."}, {"type": "x.SpladePooling", "path": "p"}], "not inside"),
        ([{"type": "x.MLMTransformer", "path": ""}, {"type": "x.SpladePooling", "path": "/etc"}], "not inside"),
        ([{"type": "x.Router", "path": "../other"}], "not inside"),
    ],
)
def test_a_modules_json_that_is_none_is_named(tmp_path: Path, modules: Any, message: str) -> None:
    folder = write_bare_folder(tmp_path)
    write_json(folder, {"modules.json": modules})
    with pytest.raises(ModelFilesError, match=rf"modules\.json.*{message}"):
        Expander(folder)


def test_a_router_may_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    folder = write_bare_folder(tmp_path)
    router = {
        "types": {"../q": PARTS + "SparseStaticEmbedding"},
        "structure": {"document": ["../q"], "query": ["../q"]},
    }
    write_json(folder, {"modules.json": [{"path": "", "type": PARTS + "Router"}], "router_config.json": router})
    with pytest.raises(ModelFilesError, match=r"router_config\.json names the folder '\.\./q', which is not inside"):
        Expander(folder)


PROMPTS = "config_sentence_transformers.json"


def test_prompts_are_read_before_the_texts_of_their_role(tmp_path: Path) -> None:
    folder = write_bare_folder(tmp_path)
    write_symmetric_layout(folder)
    plain = Expander(folder)
    write_json(folder, {PROMPTS: {"prompts": {"query": "run ", "document": "dog "}, "default_prompt_name": None}})
    prompted = Expander(folder)
    assert prompted.expand("the cat") == plain.expand("dog the cat") != plain.expand("the cat")
    assert prompted.expand_query("the cat") == plain.expand("run the cat")
    assert prompted.expand(["", " \n"]) == prompted.expand_query(["", " \n"]) == [{}, {}]
    assert prompted.own_tokens("cat", role="query") == {"run", "cat"}
    assert prompted.fingerprint != plain.fingerprint
    assert pickle.loads(pickle.dumps(prompted)).expand("the cat") == prompted.expand("the cat")
    explanation = prompted.explain("cat", "the cat")
    assert ["the cat"[span.start : span.end] for span in explanation.spans] == ["the", "cat"]
    assert explanation.document == "the cat"


@pytest.mark.parametrize(
    "prompts",
    [
        {},
        {"prompts": {}},
        {"prompts": {"query": "", "document": ""}, "default_prompt_name": None},
        {"prompts": {"query": "", "document": "", "passage": "p: "}},  # document comes first, and is empty
        {"prompts": {"other": "o: "}},
    ],
)
def test_prompts_that_apply_to_nothing_change_nothing(tmp_path: Path, prompts: dict[str, Any]) -> None:
    folder = write_bare_folder(tmp_path)
    write_symmetric_layout(folder)
    write_json(folder, {PROMPTS: prompts})
    roles = Bundle.open(folder).roles
    assert roles["doc"].prompt is None and roles["query"].prompt is None


@pytest.mark.parametrize(
    "prompts",
    [
        {"prompts": {"query": "q: ", "passage": "p: "}},
        {"prompts": {"query": "q: ", "corpus": "p: "}},
        {"prompts": {"other": "o: "}, "default_prompt_name": "other"},
        {"prompts": {"query": "q: "}, "default_prompt_name": "nowhere"},
    ],
)
def test_prompts_that_are_not_clear_are_refused(tmp_path: Path, prompts: dict[str, Any]) -> None:
    folder = write_bare_folder(tmp_path)
    write_symmetric_layout(folder)
    write_json(folder, {PROMPTS: prompts})
    with pytest.raises(ModelFilesError, match=PROMPTS):
        Expander(folder)


def test_a_manifest_has_prompts_too(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    plain = Expander(bundle)
    change_manifest(
        bundle,
        roles={
            "doc": GraphRole("doc.onnx", 32, "max", "log1p_relu", prompt="dog "),
            "query": GraphRole("query.onnx", 16, "max", "log1p_relu", prompt="run "),
        },
    )
    assert Manifest.read(bundle / MANIFEST).roles["doc"].prompt == "dog "
    prompted = Expander(bundle)
    assert prompted.expand("the cat") == plain.expand("dog the cat")
    assert prompted.expand_query("the cat") == plain.expand_query("run the cat")


def test_a_graph_in_another_folder_is_not_chosen(tmp_path: Path) -> None:
    folder = write_bare_folder(tmp_path, "checkpoint-500/onnx/model.onnx")
    with pytest.raises(ModelFilesError, match="has no model"):
        Expander(folder, **SYMMETRIC)
    content = (folder / "checkpoint-500/onnx/model.onnx").read_bytes()
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model_int8.onnx").write_bytes(content)
    assert Bundle.open(folder, Interpretation(**SYMMETRIC)).roles["doc"] == graph_role("onnx/model_int8.onnx", 512)


def test_fields_of_other_programs_are_ignored(tmp_path: Path) -> None:
    folder = write_bare_folder(tmp_path)
    write_symmetric_layout(folder)
    for name, content in FILES.items():
        write_json(folder, {name: {**content, "unknown": [{"deep": None}]}})
    assert json.loads((folder / "config.json").read_text())["unknown"]
    assert Bundle.open(folder).roles["doc"].max_length == 24
