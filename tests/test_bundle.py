from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from spladerunner import Expander, IntegrityError, ModelFilesError
from spladerunner.model.bundle import Bundle
from spladerunner.model.manifest import VocabularyRecord
from spladerunner.models import embedded_folder
from tests.small_model import TOKENS, SmallGraph, change_manifest, graph_role, tokenizer


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
        Expander(bundle)


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
        Expander(tmp_path).expand("the cat " * 5)
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
    opened = Bundle.open(tmp_path)
    assert opened.roles["doc"] == opened.roles["query"]
    assert opened.roles["doc"].max_length == 512
    expander = Expander(tmp_path)
    assert expander.expand("the cat") == expander.expand_query("the cat") != [{}]


def test_a_folder_without_a_manifest_is_cut_where_its_configuration_says(tmp_path: Path) -> None:
    SmallGraph().save(tmp_path / "model.onnx")
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 300}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 1e30}))
    assert Bundle.open(tmp_path).roles["doc"].max_length == 300
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ModelFilesError, match=r"tokenizer_config\.json cannot be read"):
        Bundle.open(tmp_path)


def test_a_graph_of_another_vocabulary_is_found(tmp_path: Path) -> None:
    SmallGraph(vocabulary_size=20).save(tmp_path / "model.onnx")
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelFilesError, match=r"model\.onnx weighs 20 tokens, but its tokenizer has"):
        Expander(tmp_path).expand("the cat")
