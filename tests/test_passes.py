"""Graph passes: requirements, guarantees, and reported changes of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from spladerunner import CheckpointError
from spladerunner.export.checkpoint import Checkpoint
from spladerunner.export.graph import GraphBuilder, build_graph
from spladerunner.export.options import Target
from spladerunner.export.passes import Graph, Pass, passes
from spladerunner.export.passes.append_pooling import AppendPooling
from spladerunner.export.passes.contract import UnmetError
from spladerunner.export.passes.external_data import ExternalData
from spladerunner.export.passes.float16 import Float16
from spladerunner.export.passes.fuse_attention import FuseAttention
from spladerunner.export.passes.optimize import FuseOperators, Optimize
from spladerunner.export.passes.quantize import QUANTIZATIONS, Quantize
from spladerunner.export.passes.tie_embedding import TieEmbedding
from spladerunner.inference.pooling import ACTIVATIONS, max_pool, sum_pool
from spladerunner.model.sentence_transformers import MaskedLanguageModel
from tests.checkpoints import save_bert
from tests.small_model import TOKENS, SmallGraph

IDS = np.array([[2, 7, 8, 9, 3, 0, 0], [2, 9, 12, 14, 15, 16, 3]], dtype=np.int64)
MASK = np.array([[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]], dtype=np.int64)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return Checkpoint(MaskedLanguageModel(save_bert(tmp_path_factory.mktemp("checkpoint"))))


@pytest.fixture(scope="module")
def graphs(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small checkpoint's graph as converted, and after each pass for CPUs and for CUDA."""
    folder = tmp_path_factory.mktemp("graphs")
    for target in ("cpu", "cuda"):
        build_graph(checkpoint, folder / f"{target}.onnx", target=target, keep=folder / target)
    made = {path.stem: path for target in ("cuda", "cpu") for path in (folder / target).glob("*.onnx")}
    return {
        **made,
        "convert": folder / "cpu" / "convert" / "model.onnx",
        "external-data": folder / "cpu.onnx",
        "append-pooling": folder / "cuda.onnx",
    }


def logits(graph: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    ids = np.array([[2, *range(5, 25), 3]], dtype=np.int64)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    output: np.ndarray = session.run(None, {given.name: feeds[given.name] for given in session.get_inputs()})[0]
    return output


def outputs(graph: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    feeds = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": np.zeros_like(IDS)}
    found: np.ndarray = session.run(None, {given.name: feeds[given.name] for given in session.get_inputs()})[0]
    return found


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_each_pass_changes_the_graph_of_the_one_before(graphs: dict[str, Path], tmp_path: Path, target: Target) -> None:
    graph = Graph(graphs["convert"])
    for each in passes(target, positions=64):
        result = each(graph, tmp_path / f"{each.name}.onnx")
        assert result.changed, each
        graph = result.graph


@pytest.mark.parametrize(
    ("transformation", "source"), [(Optimize(), "optimize"), (FuseAttention(64), "fuse-attention")]
)
def test_a_pass_without_an_effect_reports_no_change(
    graphs: dict[str, Path], tmp_path: Path, transformation: Pass, source: str
) -> None:
    again = transformation(Graph(graphs[source]), tmp_path / "again.onnx")
    assert not again.changed
    assert np.array_equal(logits(again.graph.path), logits(graphs[source]))


def test_external_data_of_the_working_folder_is_left_alone(
    graphs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exports while the working folder holds weights of the same name."""
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "moved.onnx.data"
    other.write_bytes(b"another")
    (tmp_path / "bundle").mkdir()
    ExternalData()(Graph(graphs["quantize"]), tmp_path / "bundle" / "moved.onnx")
    assert np.array_equal(logits(tmp_path / "bundle" / "moved.onnx"), logits(graphs["quantize"]))
    assert other.read_bytes() == b"another"


def test_external_data_of_small_weights_reports_no_change(tmp_path: Path) -> None:
    small = SmallGraph().save(tmp_path / "small.onnx")
    assert not ExternalData()(Graph(small), tmp_path / "after.onnx").changed
    assert not (tmp_path / "after.onnx.data").exists()


@pytest.mark.parametrize(
    ("transformation", "source", "condition"),
    [
        (Optimize(), "append-pooling", r"'optimize' requires input_ids and logits \(B, L, V\), not inputs"),
        (FuseAttention(64), "quantize", r"'fuse attention' requires float32 weights, but \S+ is U?INT8"),
        (FuseAttention(64), "append-pooling", r"'fuse attention' requires input_ids and logits"),
        (Quantize(), "quantize", r"'quantize' requires float32 weights, but \S+ is U?INT8"),
        (Quantize(), "float16", r"'quantize' requires float32 weights, but \S+ is FLOAT16"),
        (FuseOperators(), "optimize", r"'fuse operators' requires int8 products, but there is no MatMulInteger"),
        (TieEmbedding(), "quantize", r"'tie embedding' requires fused int8 products"),
        (TieEmbedding(), "tie-embedding", r"requires one embedding looked up by input_ids, but there are 2 lookups"),
        (ExternalData(), "external-data", r"'external data' requires weights inside the file"),
        (TieEmbedding(), "external-data", r"'tie embedding' requires weights inside the file"),
        (AppendPooling("max", "relu"), "fuse-attention", r"'append pooling' requires the input attention_mask"),
        (Float16(), "float16", r"'float16' requires float32 weights, but \S+ is FLOAT16"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_pass_names_what_it_requires(
    graphs: dict[str, Path], tmp_path: Path, transformation: Pass, source: str, condition: str
) -> None:
    with pytest.raises(CheckpointError, match=condition) as caught:
        transformation(Graph(graphs[source]), tmp_path / "after.onnx")
    assert caught.value.path == graphs[source]
    assert not (tmp_path / "after.onnx").exists()


@pytest.mark.parametrize(
    ("transformation", "wrong", "condition"),
    [
        (Optimize(), "fuse-operators", r"standard ONNX operators, but some are of \['com\.microsoft'\]"),
        (Optimize(), "append-pooling", r"logits"),
        (FuseAttention(64), "fused with its mask", r"no mask beside fused attention"),
        (Quantize(), "optimize", r"int8 matrices, but \S+ is float32"),
        (FuseOperators(), "quantize", r"fused int8 products"),
        (FuseOperators(), "sum and normalization fused", r"there is a SkipLayerNormalization"),
        (TieEmbedding(), "fuse-operators", r"one int8 embedding, but there are embeddings of types \[1\]"),
        (ExternalData(), "tie-embedding", r"large weights outside the graph, but \S+ is inside"),
        (AppendPooling("max", "relu"), "optimize", r"the output weights \(B, V\)"),
        (Float16(), "float16 outputs", r"float16 products, but \S+ is float32"),
        (Float16(), "optimize", r"float16 outputs, but logits is not"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_pass_checks_what_it_ensures(
    graphs: dict[str, Path], transformation: Pass, wrong: str, condition: str
) -> None:
    if wrong in graphs:
        model = onnx.load(graphs[wrong])
    else:
        model = onnx.load(graphs["fuse-attention" if "mask" in wrong or "float16" in wrong else "fuse-operators"])
        if wrong == "fused with its mask":
            model.graph.input.append(helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["B", "L"]))
        elif wrong == "float16 outputs":
            model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
        else:
            model.graph.node.append(helper.make_node("SkipLayerNormalization", ["a", "b"], ["c"]))
    with pytest.raises(UnmetError, match=condition):
        transformation.ensures(model)


def test_an_unmet_postcondition_is_an_error_that_names_the_pass(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Truncate(Optimize):
        name: ClassVar[str] = "truncate"

        def run(self, source: Path, target: Path) -> None:
            model = onnx.load(source)
            model.graph.output[0].type.tensor_type.shape.dim.pop()
            onnx.save(model, target)

    small = SmallGraph().save(tmp_path / "small.onnx")
    with pytest.raises(CheckpointError, match=r"The pass 'truncate' ensures input_ids and logits .* \(after\.onnx\)"):
        Truncate()(Graph(small), tmp_path / "after.onnx")


def test_passes_of_equal_options_are_equal() -> None:
    assert passes("cpu", positions=64) == passes("cpu", positions=64)
    different = passes("cpu", positions=64, quantization=QUANTIZATIONS[1])
    equal = [one == other for one, other in zip(passes("cpu", positions=64), different, strict=True)]
    assert equal == [True, True, False, True, True, True, True]


def test_a_second_list_runs_only_the_passes_that_differ(checkpoint: Checkpoint, tmp_path: Path) -> None:
    lines: list[str] = []
    builder = GraphBuilder(checkpoint, "doc", tmp_path, lines.append)
    builder.build(passes("cpu", positions=64), tmp_path / "doc.onnx")
    names = [each.name for each in passes("cpu", positions=64)]
    assert [line[:14].strip() for line in lines] == ["convert", *names]
    first = (tmp_path / "doc.onnx").read_bytes()
    del lines[:]
    builder.build(passes("cpu", positions=64, quantization=QUANTIZATIONS[1]), tmp_path / "doc.onnx")
    assert [line[:14].strip() for line in lines] == names[2:]
    assert (tmp_path / "doc.onnx").read_bytes() != first
    del lines[:]
    builder.build(passes("cpu", positions=64), tmp_path / "doc.onnx")
    assert [line[:14].strip() for line in lines] == names[2:]
    assert (tmp_path / "doc.onnx").read_bytes() == first


def test_build_graph_leaves_nothing_but_the_graph(checkpoint: Checkpoint, tmp_path: Path) -> None:
    build_graph(checkpoint, tmp_path / "doc.onnx")
    assert {path.name for path in tmp_path.iterdir()} == {"doc.onnx", "doc.onnx.data"}


def test_optimize_is_exact_and_leaves_fewer_nodes(graphs: dict[str, Path]) -> None:
    np.testing.assert_allclose(logits(graphs["optimize"]), logits(graphs["convert"]), rtol=0, atol=1e-4)
    before, after = (onnx.load(graphs[name]).graph.node for name in ("convert", "optimize"))
    assert len(after) < len(before)


def test_fused_attention_is_one_operator_a_layer_and_exact(graphs: dict[str, Path]) -> None:
    np.testing.assert_allclose(logits(graphs["fuse-attention"]), logits(graphs["optimize"]), rtol=0, atol=1e-4)
    graph = onnx.load(graphs["fuse-attention"]).graph
    assert [node.op_type for node in graph.node].count("MultiHeadAttention") == 1
    assert not {"Softmax", "Transpose"} & {node.op_type for node in graph.node}
    assert [given.name for given in graph.input] == ["input_ids", "token_type_ids"]


def test_attention_whose_mask_hides_more_than_padding_is_unchanged(graphs: dict[str, Path], tmp_path: Path) -> None:
    """ModernBERT's mask, for one, hides all but a window."""
    model = onnx.load(graphs["optimize"])
    mask = next(node for node in model.graph.node if node.op_type == "Softmax").input[0]
    add = next(node for node in model.graph.node if mask in node.output)
    assert add.op_type == "Add"
    at = list(model.graph.node).index(add)
    model.graph.node.insert(at, helper.make_node("Trilu", [add.input[0], "diagonal"], ["window"], upper=0))
    model.graph.initializer.append(numpy_helper.from_array(np.array(1, dtype=np.int64), "diagonal"))
    model.graph.node[at + 1].input[0] = "window"
    onnx.save(model, tmp_path / "windowed.onnx")
    result = FuseAttention(64)(Graph(tmp_path / "windowed.onnx"), tmp_path / "after.onnx")
    assert not result.changed and "not BERT's" in result.note
    assert np.array_equal(logits(tmp_path / "after.onnx"), logits(tmp_path / "windowed.onnx"))


def test_a_fusion_that_changes_the_logits_is_undone(graphs: dict[str, Path], tmp_path: Path) -> None:
    """An attention that scales its queries by another number than the root of their size."""
    model = onnx.load(graphs["optimize"])
    scale = next(node for node in model.graph.node if node.op_type == "Sqrt").output[0]
    for node in model.graph.node:
        if node.op_type in ("Mul", "Div") and scale in node.input:
            node.input[:] = ["other_scale" if value == scale else value for value in node.input]
    model.graph.initializer.append(numpy_helper.from_array(np.array(1e-6, dtype=np.float32), "other_scale"))
    onnx.save(model, tmp_path / "scaled.onnx")
    assert not FuseAttention(64)(Graph(tmp_path / "scaled.onnx"), tmp_path / "after.onnx").changed
    assert np.array_equal(logits(tmp_path / "after.onnx"), logits(tmp_path / "scaled.onnx"))


def test_fused_operators_give_the_same_logits(graphs: dict[str, Path]) -> None:
    np.testing.assert_allclose(logits(graphs["fuse-operators"]), logits(graphs["quantize"]), rtol=0, atol=1e-4)
    kinds = {node.op_type for node in onnx.load(graphs["fuse-operators"]).graph.node}
    assert "DynamicQuantizeMatMul" in kinds and "MatMulInteger" not in kinds


def test_a_tied_embedding_is_one_int8_matrix(graphs: dict[str, Path]) -> None:
    graph = onnx.load(graphs["tie-embedding"]).graph
    matrices = [constant for constant in graph.initializer if sorted(constant.dims) == [32, len(TOKENS)]]
    assert [matrix.data_type for matrix in matrices] == [TensorProto.INT8]
    assert np.abs(logits(graphs["tie-embedding"]) - logits(graphs["fuse-operators"])).max() < 0.1
    original = next(c for c in onnx.load(graphs["convert"]).graph.initializer if "word_embeddings" in c.name)
    scale = next(c for c in graph.initializer if list(c.dims) == [len(TOKENS)] and c.name.endswith("_scale"))
    steps = numpy_helper.to_array(scale)[:, np.newaxis]
    restored = numpy_helper.to_array(matrices[0]) * steps
    assert np.all(np.abs(restored - numpy_helper.to_array(original)) <= 0.501 * steps)


def test_an_embedding_that_is_not_tied_becomes_a_second_int8_matrix(tmp_path: Path) -> None:
    untied = Checkpoint(MaskedLanguageModel(save_bert(tmp_path / "untied", tie_word_embeddings=False)))
    lines: list[str] = []
    builder = GraphBuilder(untied, "doc", tmp_path, lines.append)
    builder.build(passes("cpu", positions=64), tmp_path / "doc.onnx")
    assert any("not tied to the decoder: two int8 matrices" in line for line in lines)
    graph = onnx.load(tmp_path / "tie-embedding.onnx").graph
    matrices = [constant for constant in graph.initializer if sorted(constant.dims) == [32, len(TOKENS)]]
    assert [matrix.data_type for matrix in matrices] == [TensorProto.INT8] * 2
    assert np.abs(logits(tmp_path / "tie-embedding.onnx") - logits(tmp_path / "fuse-operators.onnx")).max() < 0.1


def test_external_data_changes_no_output_and_has_the_modes_of_the_graph(
    graphs: dict[str, Path], tmp_path: Path
) -> None:
    moved = tmp_path / "moved.onnx"
    sizes = [ExternalData()(Graph(graphs["quantize"]), moved).graph.size for _ in range(2)]
    assert sizes[0] == sizes[1]
    assert {path.name for path in tmp_path.iterdir()} == {"moved.onnx", "moved.onnx.data"}
    assert np.array_equal(logits(moved), logits(graphs["quantize"]))
    assert (tmp_path / "moved.onnx.data").stat().st_mode == moved.stat().st_mode


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("pooling", ["max", "sum"])
def test_appended_pooling_equals_pooling_of_the_logits(
    graphs: dict[str, Path], tmp_path: Path, pooling: str, activation: str
) -> None:
    before = Graph(graphs["optimize"])
    after = outputs(AppendPooling(pooling, activation)(before, tmp_path / "after.onnx").graph.path)
    found = outputs(before.path)
    if pooling == "sum":
        expected = sum_pool(found, MASK, ACTIVATIONS[activation])
    else:
        expected = ACTIVATIONS[activation](np.maximum(max_pool(found, MASK), 0))
    assert after.shape == (2, len(TOKENS))
    np.testing.assert_allclose(after, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("tile", [7, 16, len(TOKENS)])
def test_tiles_of_the_vocabulary_give_the_same_weights(graphs: dict[str, Path], tmp_path: Path, tile: int) -> None:
    """With padding that attention would notice, and a bias."""
    whole = AppendPooling("max", "log1p_relu")(Graph(graphs["optimize"]), tmp_path / "whole.onnx").graph.path
    tiled = AppendPooling("max", "log1p_relu", tile)(Graph(graphs["optimize"]), tmp_path / "tiled.onnx").graph.path
    inferred = onnx.shape_inference.infer_shapes(onnx.load(tiled)).graph.value_info
    widths = [value.type.tensor_type.shape.dim[-1].dim_value for value in inferred if value.name.endswith("_logits")]
    assert sum(widths) == len(TOKENS) and max(widths) <= tile
    np.testing.assert_allclose(outputs(tiled), outputs(whole), rtol=0, atol=1e-6)
    expected = np.log1p(np.maximum(max_pool(outputs(graphs["optimize"]), MASK), 0))
    np.testing.assert_allclose(outputs(tiled), expected, rtol=0, atol=1e-5)


def test_pooling_requires_a_decoder_that_is_a_product(tmp_path: Path) -> None:
    model = onnx.load(SmallGraph().save(tmp_path / "small.onnx"))
    model.graph.node.append(helper.make_node("Tanh", ["logits"], ["squashed"]))
    model.graph.output[0].name = "squashed"
    onnx.save(model, tmp_path / "squashed.onnx")
    with pytest.raises(CheckpointError, match=r"requires a product with a constant matrix .*, but Tanh gives them"):
        AppendPooling("max", "relu")(Graph(tmp_path / "squashed.onnx"), tmp_path / "after.onnx")


def test_float16_outputs_are_nearly_those_of_float32(tmp_path: Path) -> None:
    before = SmallGraph().save(tmp_path / "before.onnx")
    after = Float16()(Graph(before), tmp_path / "after.onnx").graph.path
    assert outputs(after).dtype == np.float16
    np.testing.assert_allclose(outputs(after), outputs(before), rtol=0.01, atol=0.05)
    kinds = {constant.data_type for constant in onnx.load(after).graph.initializer if len(constant.dims) == 2}
    assert kinds == {TensorProto.FLOAT16}
