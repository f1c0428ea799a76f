from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from spladerunner import Expander, IntegrityError, ModelFilesError
from spladerunner.model.bundle import Bundle
from spladerunner.model.registry import embedded_folder
from tests.small_model import TOKENS, SmallGraph, edit_manifest, graph_role, tokenizer, write_bundle


def test_reads_what_the_manifest_says(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    assert (opened.name, opened.license, opened.files["doc.onnx"].size) == (
        "small",
        "Apache-2.0",
        (bundle / "doc.onnx").stat().st_size,
    )
    assert opened.roles["doc"].graph == "doc.onnx" and opened.roles["doc"].max_length == 32
    assert opened.roles["query"].graph == "query.onnx" and opened.roles["query"].max_length == 16


@pytest.mark.parametrize("name", ["doc.onnx", "query.onnx", "tokenizer.json"])
def test_one_changed_byte_is_found(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(IntegrityError, match=rf"{name} has sha256 .* but manifest\.json says .*Fetch or export"):
        expand_both(Expander(bundle))


def test_a_changed_graph_is_never_used(bundle: Path) -> None:
    SmallGraph(seed=3).save(bundle / "doc.onnx")
    expander = Expander(bundle)
    for _ in range(2):
        with pytest.raises(IntegrityError, match=r"doc\.onnx has sha256"):
            expander.expand("the cat")
    assert expander.expand_query("the cat")[0]


def test_a_changed_byte_in_the_weights_beside_a_graph_is_found(tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(embedded_folder(), copied)
    content = bytearray((copied / "doc.onnx.data").read_bytes())
    content[len(content) // 2] ^= 1
    (copied / "doc.onnx.data").write_bytes(content)
    expander = Expander(copied)
    assert expander.expand_query("the cat")[0]
    with pytest.raises(IntegrityError, match=r"doc\.onnx\.data has sha256"):
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
    edit_manifest(bundle, vocabulary={"size": 3, "sha256": "0" * 64})
    with pytest.raises(IntegrityError, match=r"tokenizer\.json has a vocabulary of \d+ tokens .*manifest says 3"):
        Expander(bundle)


@pytest.mark.parametrize("outside", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", "C:secret", ""])
def test_a_manifest_may_name_only_files_inside_its_folder(tmp_path: Path, outside: str) -> None:
    (tmp_path / "secret").write_text("secret")
    bundle = write_bundle(tmp_path / "bundle")
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    edit_manifest(bundle, files={**files, outside: {"size": 6, "sha256": ""}})
    with pytest.raises(ModelFilesError, match=r"manifest\.json.*not inside its folder"):
        Expander(bundle)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 3}, "schema 3; this version of spladerunner reads schemas 1 to 2"),
        ({"schema": None}, "schema None"),
        ({"schema": True}, "schema True"),
        ({"roles": {"doc": graph_role("doc.onnx", True)}}, "max_length = True"),
        ({"roles": {"doc": graph_role("doc.onnx", 8)}}, "query = None"),
        ({"roles": []}, r"roles = \[\]"),
        ({"roles": {"doc": graph_role("other.onnx", 8)}}, "names other.onnx"),
        ({"roles": {"doc": graph_role("doc.onnx", "long")}}, "max_length = 'long' where a int belongs"),
        ({"roles": {"doc": graph_role("doc.onnx", 8, activation="softmax")}}, "activation 'softmax'"),
        ({"roles": {"doc": graph_role("doc.onnx", 8, pooling="mean")}}, "pooling 'mean'"),
        ({"roles": {"doc": {"table": "doc.npy", "max_length": 8}}}, "names doc.npy"),
        ({"files": {}}, r"its files are \[\]"),
        ({"files": None}, "files = None"),
        ({"vocabulary": {}}, "size = None"),
        ({"name": 7}, "name = 7"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_named(bundle: Path, changes: dict[str, Any], message: str) -> None:
    edit_manifest(bundle, **changes)
    with pytest.raises(ModelFilesError, match=rf"manifest\.json.*{message}"):
        Expander(bundle)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff\xfe"])
def test_a_manifest_that_is_no_json_object_is_named(bundle: Path, content: bytes) -> None:
    (bundle / "manifest.json").write_bytes(content)
    with pytest.raises(ModelFilesError, match=re.escape(str(bundle / "manifest.json"))):
        Expander(bundle)


@pytest.mark.parametrize("length", [-1, 0, 2])
def test_a_manifest_with_no_room_for_a_text_is_an_error(bundle: Path, length: int) -> None:
    edit_manifest(bundle, roles={"doc": graph_role("doc.onnx", length), "query": graph_role("query.onnx", 8)})
    with pytest.raises(ModelFilesError, match=f"reads {length} tokens of a text as doc"):
        Expander(bundle)


def test_a_text_too_long_for_the_graph_is_an_error_that_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    SmallGraph(vocabulary_size=len(TOKENS)).save(tmp_path / "model.onnx", positions=8)
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelFilesError, match=r"failed on 12 tokens.*smaller max_length"):
        Expander(tmp_path).expand("the cat " * 5)
    assert capfd.readouterr().err == ""


def test_a_folder_that_is_no_bundle_is_named_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=rf"{tmp_path} holds no model.*spladerunner export"):
        Expander(tmp_path)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
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
