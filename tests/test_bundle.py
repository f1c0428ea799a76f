from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from spladerunner import Expander, IntegrityError, ModelFilesError
from spladerunner.model.bare_folder import Interpretation
from spladerunner.model.bundle import Bundle
from spladerunner.model.manifest import TokenWeightsRole, VocabularyRecord
from spladerunner.models import embedded_folder
from tests.small_model import (
    SYMMETRIC,
    TOKENS,
    SmallGraph,
    change_manifest,
    expected_weights,
    graph_role,
    move_weights,
    records,
    tokenizer,
)


def test_opens_what_the_manifest_describes(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    assert (opened.name, opened.license, opened.files["doc.onnx"].size) == (
        "small",
        "Apache-2.0",
        (bundle / "doc.onnx").stat().st_size,
    )
    assert opened.roles == {"doc": graph_role("doc.onnx", 32), "query": graph_role("query.onnx", 16)}


@pytest.mark.parametrize("name", ["doc.onnx", "query.onnx", "tokenizer.json"])
def test_one_changed_byte_is_found(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(IntegrityError, match=rf"{name} has SHA-256 .* but manifest\.json says .*Fetch or export"):
        expand_both(Expander(bundle))


def test_a_changed_graph_is_never_used(bundle: Path) -> None:
    SmallGraph(seed=3).save(bundle / "doc.onnx")
    expander = Expander(bundle)
    for _ in range(2):
        with pytest.raises(IntegrityError, match=r"doc\.onnx has SHA-256"):
            expander.expand("the cat")
    assert expander.expand_query("the cat")[0]


def test_a_changed_byte_in_external_data_is_found(tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(embedded_folder(), copied)
    content = bytearray((copied / "doc.onnx.data").read_bytes())
    content[len(content) // 2] ^= 1
    (copied / "doc.onnx.data").write_bytes(content)
    expander = Expander(copied)
    assert expander.expand_query("the cat")[0]
    with pytest.raises(IntegrityError, match=r"doc\.onnx\.data has SHA-256"):
        expander.expand("the cat")


def expand_both(expander: Expander) -> None:
    expander.expand_query("the cat")
    expander.expand("the cat")


@pytest.mark.parametrize("name", ["doc.onnx", "query.onnx", "tokenizer.json"])
def test_a_file_cut_in_half_is_found(bundle: Path, name: str) -> None:
    os.truncate(bundle / name, (bundle / name).stat().st_size // 2)
    with pytest.raises(IntegrityError, match=f"{name} has size"):
        Expander(bundle)


@pytest.mark.parametrize("name", ["doc.onnx", "query.onnx", "tokenizer.json"])
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(ModelFilesError, match=name):
        Expander(bundle)


def test_a_tokenizer_of_another_vocabulary_is_found(bundle: Path) -> None:
    change_manifest(bundle, vocabulary=VocabularyRecord(3, "0" * 64))
    with pytest.raises(IntegrityError, match=r"tokenizer\.json has a vocabulary of \d+ tokens .*manifest says 3"):
        Expander(bundle).encode("the cat")


@pytest.mark.parametrize("length", [-1, 0, 2])
def test_a_manifest_with_no_room_for_a_text_is_an_error(bundle: Path, length: int) -> None:
    change_manifest(bundle, roles={"doc": graph_role("doc.onnx", length), "query": graph_role("query.onnx", 8)})
    with pytest.raises(ModelFilesError, match=f"reads {length} tokens of a doc text"):
        Expander(bundle)


def test_a_text_too_long_for_the_graph_is_an_error_that_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    SmallGraph(vocabulary_size=len(TOKENS)).save(tmp_path / "model.onnx", positions=8)
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelFilesError, match=r"failed on 12 tokens.*smaller max_length"):
        Expander(tmp_path, **SYMMETRIC).expand("the cat " * 5)
    assert capfd.readouterr().err == ""


def test_a_folder_without_a_model_is_named_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=rf"{tmp_path} has no model.*spladerunner export"):
        Expander(tmp_path)


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelFilesError, match="is not a folder"):
        Bundle.open(tmp_path / "file")


@pytest.mark.parametrize("graph", ["model.onnx", "onnx/model.onnx", "onnx/model_quantized.onnx"])
def test_a_folder_without_a_manifest_is_a_symmetric_model(tmp_path: Path, graph: str) -> None:
    (tmp_path / "onnx").mkdir()
    small = SmallGraph()
    small.save(tmp_path / graph)
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    opened = Bundle.open(tmp_path, Interpretation(**SYMMETRIC))
    assert opened.roles["doc"] == opened.roles["query"] == graph_role(graph, 512)
    expander = Expander(tmp_path, **SYMMETRIC)
    weights = expected_weights(small.logits([TOKENS.index(token) for token in ("[CLS]", "the", "cat", "[SEP]")]))
    assert len(weights) > 40
    assert expander.expand("the cat") == expander.expand_query("the cat") == [pytest.approx(weights, rel=1e-5)]


def test_a_folder_without_a_manifest_is_cut_where_its_configuration_says(tmp_path: Path) -> None:
    SmallGraph().save(tmp_path / "model.onnx")
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 300}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 1e30}))
    assert Bundle.open(tmp_path, Interpretation(**SYMMETRIC)).roles["doc"].max_length == 300
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ModelFilesError, match=r"tokenizer_config\.json cannot be read"):
        Bundle.open(tmp_path, Interpretation(**SYMMETRIC))


def test_a_graph_of_another_vocabulary_is_found(tmp_path: Path) -> None:
    SmallGraph(vocabulary_size=20).save(tmp_path / "model.onnx")
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelFilesError, match=r"model\.onnx weighs 20 tokens, but its tokenizer has"):
        Expander(tmp_path, **SYMMETRIC).expand("the cat")


def bare_folder(folder: Path, seed: int = 0) -> Path:
    folder.mkdir()
    SmallGraph(seed=seed).save(folder / "model.onnx")
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def open_bare(folder: Path) -> Bundle:
    """As a symmetric model, unless its files say otherwise."""
    stated = (folder / "modules.json").exists()
    return Bundle.open(folder, None if stated else Interpretation(**SYMMETRIC))


def test_the_fingerprint_of_a_bare_folder_is_that_of_its_model(tmp_path: Path) -> None:
    first, same = (open_bare(bare_folder(tmp_path / name)).fingerprint() for name in ("first", "same"))
    (tmp_path / "same" / "notes.txt").write_text("not part of the model")
    assert first == same == open_bare(tmp_path / "same").fingerprint()
    found = {first}

    def change(folder: Path) -> None:
        fingerprint = open_bare(folder).fingerprint()
        assert fingerprint not in found
        found.add(fingerprint)

    change(bare_folder(tmp_path / "another graph", seed=1))
    move_weights(tmp_path / "same" / "model.onnx")
    change(tmp_path / "same")
    weights = bytearray((tmp_path / "same" / "model.onnx_data").read_bytes())
    weights[0] ^= 1
    (tmp_path / "same" / "model.onnx_data").write_bytes(weights)
    change(tmp_path / "same")
    tokenizer(TOKENS[:40]).save(str(tmp_path / "same" / "tokenizer.json"))
    change(tmp_path / "same")
    write_layout(tmp_path / "same", pooling_strategy="sum")
    change(tmp_path / "same")
    write_layout(tmp_path / "same", pooling_strategy="sum", activation_function="log1p_relu")
    change(tmp_path / "same")


def test_the_fingerprint_of_a_bundle_is_that_of_its_files(bundle: Path) -> None:
    before = Bundle.open(bundle).fingerprint()
    (bundle / "notes.txt").write_text("not part of the model")
    assert Bundle.open(bundle).fingerprint() == before
    SmallGraph(seed=5).save(bundle / "query.onnx")
    change_manifest(bundle, files=records(bundle, "tokenizer.json", "doc.onnx", "query.onnx"))
    assert Bundle.open(bundle).fingerprint() != before


PARTS = "sentence_transformers.sparse_encoder.models."


def write_layout(folder: Path, **pooling: str) -> None:
    modules = [
        {"path": "", "type": PARTS + "MLMTransformer"},
        {"path": "1_SpladePooling", "type": PARTS + "SpladePooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_SpladePooling").mkdir(exist_ok=True)
    (folder / "1_SpladePooling" / "config.json").write_text(json.dumps(pooling))


def test_a_bare_folder_is_cut_at_the_least_length_unless_sentence_transformers_files_say_one(tmp_path: Path) -> None:
    folder = bare_folder(tmp_path / "bare")
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 300}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 200}))
    assert open_bare(folder).roles["doc"].max_length == 200
    write_layout(folder)
    assert open_bare(folder).roles["doc"].max_length == 200
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 100}))
    assert open_bare(folder).roles["doc"].max_length == open_bare(folder).roles["query"].max_length == 100


def test_a_bare_folder_with_two_models_is_refused(tmp_path: Path) -> None:
    """One graph cannot serve both."""
    folder = bare_folder(tmp_path / "bare")
    types = {"doc": "MLMTransformer", "model": "MLMTransformer"}
    types |= {"doc_pooling": "SpladePooling", "pooling": "SpladePooling"}
    (folder / "modules.json").write_text(json.dumps([{"path": "", "type": "sentence_transformers.models.Router"}]))
    router = {
        "types": {name: PARTS + kind for name, kind in types.items()},
        "structure": {"document": ["doc", "doc_pooling"], "query": ["model", "pooling"]},
    }
    (folder / "router_config.json").write_text(json.dumps(router))
    for name in ("doc_pooling", "pooling"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text("{}")
    with pytest.raises(ModelFilesError, match="different models for documents and queries, but one graph"):
        Bundle.open(folder)


@pytest.mark.parametrize("name", ["doc.onnx", "tokenizer.json"])
def test_a_file_that_cannot_be_read_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    (bundle / name).mkdir()
    with pytest.raises(ModelFilesError, match=rf"{name}, which manifest\.json names, cannot be read.*Fetch or export"):
        Expander(bundle)


def test_a_file_that_disappears_before_it_is_opened_is_named(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    (bundle / "doc.onnx").unlink()
    with pytest.raises(ModelFilesError, match=r"doc\.onnx, which manifest\.json names, cannot be read"):
        opened.read("doc.onnx")


def test_a_changed_byte_in_token_weights_is_found(bundle: Path) -> None:
    np.save(bundle / "query.npy", np.ones(len(TOKENS), dtype=np.float32))
    change_manifest(
        bundle,
        roles={"doc": graph_role("doc.onnx", 32), "query": TokenWeightsRole("query.npy", 16)},
        files=records(bundle, "tokenizer.json", "doc.onnx", "query.npy"),
    )
    content = bytearray((bundle / "query.npy").read_bytes())
    content[-1] ^= 1
    (bundle / "query.npy").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"query\.npy has SHA-256"):
        Expander(bundle).expand_query("the cat")


def test_a_non_special_added_token_gets_its_weight(tmp_path: Path) -> None:
    made = tokenizer()
    made.add_tokens(["covid-19"])
    made.save(str(tmp_path / "tokenizer.json"))
    graph = SmallGraph(vocabulary_size=len(TOKENS) + 1)
    graph.save(tmp_path / "model.onnx")
    ids = [*map(TOKENS.index, ["[CLS]", "the"]), len(TOKENS), TOKENS.index("[SEP]")]
    expected = expected_weights(graph.logits(ids), [*TOKENS, "covid-19"])
    assert "covid-19" in expected
    assert Expander(tmp_path, **SYMMETRIC).expand("the covid-19")[0] == pytest.approx(expected, abs=1e-5)
