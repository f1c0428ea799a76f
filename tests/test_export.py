"""The export: the trained pair through the command, and small random checkpoints where it must say no."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from transformers import BertConfig, BertModel

from spladerunner import CheckpointError, Expander, VerificationError
from spladerunner.export import ExportOptions, export_bundle, pipeline
from spladerunner.export.passes.external_data import put_weights_beside
from spladerunner.export.passes.fuse_attention import fuse_attention
from spladerunner.export.passes.optimize import fuse, optimize
from spladerunner.export.passes.quantize import quantize
from spladerunner.export.passes.tie_embedding import quantize_embedding
from spladerunner.export.verify import Agreement, verification_texts
from spladerunner.model.bundle import Bundle
from tests.checkpoints import save_bert
from tests.small_model import TOKENS


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "verification_texts", lambda: ["the cat sat", "river bank " * 40, ""])


@pytest.fixture(scope="module")
def exported(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The trained pair through the command, and what the command said."""
    folder = tmp_path_factory.mktemp("exported") / "tiny-en"
    pair = [word for role in ("doc", "query") for word in (f"--{role}", str(shared / "tiny-en" / role))]
    done = subprocess.run(
        [sys.executable, "-m", "spladerunner", "export", *pair, "-o", folder, "--license", "Apache-2.0"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return folder, done.stderr


def test_the_command_shows_each_step_with_its_size_and_time(exported: tuple[Path, str]) -> None:
    lines = exported[1].splitlines()
    for step in ("convert", "optimize", "attention", "quantize", "fuse", "embedding"):
        for role in ("doc", "query"):
            assert any(re.match(rf"{step} +{role} +[\d.]+ MB +[\d.]+ s$", line) for line in lines), (step, lines)
    assert sum("cosine worst" in line for line in lines) == 2
    assert lines[-1].startswith(str(exported[0]))


def test_the_command_makes_the_bundle_that_ships(exported: tuple[Path, str], expander: Expander) -> None:
    made = Expander(exported[0])
    for role in ("doc", "query"):
        texts = verification_texts()[::10]
        for one, other in zip(made.encode(texts, role=role), expander.encode(texts, role=role), strict=True):
            assert one.dot(other) == pytest.approx((one.dot(one) * other.dot(other)) ** 0.5, rel=1e-3)
    assert {path.name for path in exported[0].iterdir()} == {
        path.name for path in (Path(__file__).parents[1] / "models" / "tiny-en").iterdir()
    }


def test_manifest_and_card_say_how_it_was_made_and_measured(exported: tuple[Path, str]) -> None:
    manifest = json.loads((exported[0] / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["name"], manifest["licence"], manifest["weight_type"]) == ("tiny-en", "Apache-2.0", "int8")
    for role in ("doc", "query"):
        assert manifest["roles"][role]["checkpoint"] == f"tiny-en/{role}"
        measured = manifest["verification"][role]
        assert measured["texts"] >= 200
        assert measured["worst_cosine"] >= 0.99 and measured["mean_cosine"] >= 0.999
        assert measured["fp32_largest_difference"] <= 1e-4
    assert manifest["verification"]["shortfalls"] == []
    assert manifest["made_by"]["versions"]["onnxruntime"] == onnxruntime.__version__
    card = (exported[0] / "README.md").read_text(encoding="utf-8")
    assert f"{manifest['verification']['doc']['worst_cosine']:.4f}" in card and "Apache-2.0" in card
    assert "{" not in card


def test_the_verification_texts_are_many_and_varied() -> None:
    texts = verification_texts()
    assert len(set(texts)) == len(texts) >= 200
    assert sum(len(text.split()) > 512 for text in texts) >= 10
    assert sum(not text.isascii() for text in texts) >= 30
    assert any("def " in text for text in texts) and any(len(text) < 10 for text in texts)


@pytest.mark.usefixtures("few_texts")
def test_a_lone_checkpoint_becomes_a_symmetric_bundle(checkpoint: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    folder = export_bundle(ExportOptions(checkpoint, tmp_path / "made", accept_drift=True), progress=lines.append)
    roles = Bundle.open(folder).roles
    assert roles["doc"] == roles["query"] and roles["doc"].max_length == 64
    expander = Expander(folder)
    assert expander.encode("the cat") == expander.encode("the cat", role="query")
    assert not (folder / "query.onnx").exists()
    assert any(line.startswith("convert") for line in lines)


def test_two_vocabularies_cannot_be_paired(checkpoint: Path, tmp_path: Path) -> None:
    tokens = [*TOKENS[:10], "horse", *TOKENS[11:]]
    other = save_bert(tmp_path / "other", tokens)
    with pytest.raises(CheckpointError, match=rf"cannot be paired.* {len(TOKENS)} and {len(TOKENS)} .* position 10 on"):
        export_bundle(ExportOptions(checkpoint, tmp_path / "made", other))
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.usefixtures("few_texts")
def test_falling_short_is_an_error_with_the_figures(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drifted = Agreement(3, 1e-3, 0.95, "the cat sat", 0.97, 0.5, 10.0, 1.0, 1.0)
    monkeypatch.setattr(pipeline, "measure", lambda *_: drifted)
    with pytest.raises(
        VerificationError,
        match=r"difference 0.001 is above 1e-04.*cosine 0.9500 is below 0.99 .*top-20 tokens 50.0% is below 90%",
    ):
        export_bundle(ExportOptions(checkpoint, tmp_path / "made"))
    assert list(tmp_path.iterdir()) == []
    lines: list[str] = []
    folder = export_bundle(ExportOptions(checkpoint, tmp_path / "made", accept_drift=True), progress=lines.append)
    shortfalls = json.loads((folder / "manifest.json").read_text())["verification"]["shortfalls"]
    assert len(shortfalls) == 3 and "0.9500" in shortfalls[1]
    assert "**Warning:** doc: worst cosine 0.9500" in (folder / "README.md").read_text()
    assert sum(line.startswith("warning: doc: ") for line in lines) == 3
    assert "--accept-drift" in json.loads((folder / "manifest.json").read_text())["made_by"]["command"]


@pytest.mark.usefixtures("few_texts")
def test_an_interrupted_export_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "measure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_bundle(ExportOptions(checkpoint, tmp_path / "made"))
    assert list(tmp_path.iterdir()) == []


def test_a_killed_export_leaves_no_bundle_under_its_name(shared: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "spladerunner",
        "export",
        "--doc",
        shared / "tiny-en" / "doc",
        "-o",
        tmp_path / "b",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("embedding"):
                break
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "b").exists()


def test_an_output_that_exists_is_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(CheckpointError, match="exists already"):
        export_bundle(ExportOptions(checkpoint, tmp_path))
    with pytest.raises(CheckpointError, match="exists already"):
        export_bundle(ExportOptions(checkpoint, tmp_path / "mine"))
    assert (tmp_path / "mine").read_text() == "kept"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_checkpoint_without_a_file_is_named(tmp_path: Path, name: str) -> None:
    folder = save_bert(tmp_path / "half")
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"holds no {name}"):
        export_bundle(ExportOptions(folder, tmp_path / "made"))
    assert not (tmp_path / "made").exists()


def test_a_checkpoint_cut_in_half_is_named(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "half")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        export_bundle(ExportOptions(folder, tmp_path / "made"))


def test_a_checkpoint_without_a_masked_lm_head_is_refused(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "headless")
    BertModel(BertConfig.from_pretrained(folder)).save_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"its weights lack \['cls\.predictions"):
        export_bundle(ExportOptions(folder, tmp_path / "made"))


@pytest.fixture(scope="module")
def graphs(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small checkpoint's graph after each step."""
    from spladerunner.export.passes.convert import convert

    folder = tmp_path_factory.mktemp("graphs")
    made = {"convert": convert(checkpoint, folder / "fp32", len(TOKENS))}
    made["optimize"] = optimize(made["convert"], folder / "optimized.onnx")
    made["attention"] = folder / "attention.onnx"
    assert fuse_attention(made["optimize"], made["attention"], len(TOKENS), 64)
    made["quantize"] = quantize(made["attention"], folder / "quantized.onnx")
    made["fuse"] = fuse(made["quantize"], folder / "fused.onnx")
    made["share"] = folder / "shared.onnx"
    assert quantize_embedding(made["fuse"], made["share"])
    return made


def logits(graph: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    ids = np.array([[2, *range(5, 25), 3]], dtype=np.int64)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    output: np.ndarray = session.run(None, {given.name: feeds[given.name] for given in session.get_inputs()})[0]
    return output


def test_optimize_is_exact_and_leaves_fewer_nodes_of_the_standard(graphs: dict[str, Path]) -> None:
    np.testing.assert_allclose(logits(graphs["optimize"]), logits(graphs["convert"]), rtol=0, atol=1e-4)
    before, after = (onnx.load(graphs[step]).graph.node for step in ("convert", "optimize"))
    assert len(after) < len(before)
    assert {node.domain for node in after} <= {"", "ai.onnx"}


def test_attention_is_one_operator_a_layer_without_a_mask_and_the_same(graphs: dict[str, Path]) -> None:
    np.testing.assert_allclose(logits(graphs["attention"]), logits(graphs["optimize"]), rtol=0, atol=1e-4)
    graph = onnx.load(graphs["attention"]).graph
    assert [node.op_type for node in graph.node].count("MultiHeadAttention") == 1
    assert not {"Softmax", "Transpose"} & {node.op_type for node in graph.node}
    assert [given.name for given in graph.input] == ["input_ids", "token_type_ids"]


def test_attention_that_a_mask_shapes_is_left_as_it_is(graphs: dict[str, Path], tmp_path: Path) -> None:
    """As ModernBERT's, whose mask hides all but a window."""
    model = onnx.load(graphs["optimize"])
    mask = next(node for node in model.graph.node if node.op_type == "Softmax").input[0]
    add = next(node for node in model.graph.node if mask in node.output)
    assert add.op_type == "Add"
    at = list(model.graph.node).index(add)
    model.graph.node.insert(at, helper.make_node("Trilu", [add.input[0], "diagonal"], ["window"], upper=0))
    model.graph.initializer.append(numpy_helper.from_array(np.array(1, dtype=np.int64), "diagonal"))
    model.graph.node[at + 1].input[0] = "window"
    onnx.save(model, tmp_path / "windowed.onnx")
    assert not fuse_attention(tmp_path / "windowed.onnx", tmp_path / "after.onnx", len(TOKENS), 64)
    assert np.array_equal(logits(tmp_path / "after.onnx"), logits(tmp_path / "windowed.onnx"))


def test_a_fusion_that_changes_the_logits_is_taken_back(graphs: dict[str, Path], tmp_path: Path) -> None:
    """As it would where queries are scaled by something else than the root of their size."""
    model = onnx.load(graphs["optimize"])
    scale = next(node for node in model.graph.node if node.op_type == "Sqrt").output[0]
    for node in model.graph.node:
        if (node.op_type == "Mul" and scale in node.input) or (node.op_type == "Div" and scale in node.input):
            node.input[:] = ["other_scale" if value == scale else value for value in node.input]
    model.graph.initializer.append(numpy_helper.from_array(np.array(1e-6, dtype=np.float32), "other_scale"))
    onnx.save(model, tmp_path / "scaled.onnx")
    assert not fuse_attention(tmp_path / "scaled.onnx", tmp_path / "after.onnx", len(TOKENS), 64)
    assert np.array_equal(logits(tmp_path / "after.onnx"), logits(tmp_path / "scaled.onnx"))


def test_quantize_leaves_no_float_matrix(graphs: dict[str, Path]) -> None:
    graph = onnx.load(graphs["quantize"]).graph
    constants = {constant.name for constant in graph.initializer}
    assert not [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in constants]
    assert [node for node in graph.node if node.op_type == "MatMulInteger"]


def test_fuse_changes_nothing_but_the_operators(graphs: dict[str, Path]) -> None:
    np.testing.assert_allclose(logits(graphs["fuse"]), logits(graphs["quantize"]), rtol=0, atol=1e-4)
    kinds = {node.op_type for node in onnx.load(graphs["fuse"]).graph.node}
    assert "DynamicQuantizeMatMul" in kinds and not {"MatMulInteger", "SkipLayerNormalization"} & kinds


def test_quantize_embedding_shares_one_table_between_lookup_and_decoder(graphs: dict[str, Path]) -> None:
    graph = onnx.load(graphs["share"]).graph
    tables = [constant for constant in graph.initializer if sorted(constant.dims) == [32, len(TOKENS)]]
    assert [table.data_type for table in tables] == [onnx.TensorProto.INT8]
    assert np.abs(logits(graphs["share"]) - logits(graphs["fuse"])).max() < 0.1
    original = next(c for c in onnx.load(graphs["convert"]).graph.initializer if "word_embeddings" in c.name)
    scale = next(c for c in graph.initializer if list(c.dims) == [len(TOKENS)] and c.name.endswith("_scale"))
    steps = numpy_helper.to_array(scale)[:, np.newaxis]
    restored = numpy_helper.to_array(tables[0]) * steps
    assert np.all(np.abs(restored - numpy_helper.to_array(original)) <= 0.501 * steps)


def test_weights_beside_the_graph_change_nothing_and_are_for_all_to_read(
    graphs: dict[str, Path], tmp_path: Path
) -> None:
    moved = tmp_path / "moved.onnx"
    first = [path.stat().st_size for path in put_weights_beside(graphs["quantize"], moved)]
    assert [path.name for path in put_weights_beside(graphs["quantize"], moved)] == ["moved.onnx", "moved.onnx.data"]
    assert [path.stat().st_size for path in (moved, tmp_path / "moved.onnx.data")] == first
    assert np.array_equal(logits(moved), logits(graphs["quantize"]))
    assert (tmp_path / "moved.onnx.data").stat().st_mode == moved.stat().st_mode


def test_quantize_embedding_gives_an_untied_model_two_tables(tmp_path: Path) -> None:
    from spladerunner.export.passes.convert import convert

    folder = save_bert(tmp_path / "untied", tie_word_embeddings=False)
    quantized = quantize(convert(folder, tmp_path / "fp32", len(TOKENS)), tmp_path / "quantized.onnx")
    quantized = fuse(quantized, tmp_path / "fused.onnx")
    assert not quantize_embedding(quantized, tmp_path / "two.onnx")
    graph = onnx.load(tmp_path / "two.onnx").graph
    tables = [constant for constant in graph.initializer if sorted(constant.dims) == [32, len(TOKENS)]]
    assert [table.data_type for table in tables] == [onnx.TensorProto.INT8] * 2
    assert np.abs(logits(tmp_path / "two.onnx") - logits(quantized)).max() < 0.1
