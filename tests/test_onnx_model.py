"""Published ONNX graphs as sources of an export, against the checkpoints that they were made from."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from onnxruntime.quantization import quantize_dynamic
from transformers import BertForMaskedLM

from spladerunner import CheckpointError, Expander, ModelFilesError, VerificationError
from spladerunner.export import ExportOptions, export_bundle, pipeline, standard_form
from spladerunner.export.checkpoint import Checkpoint
from spladerunner.export.onnx_model import OnnxModel
from spladerunner.export.roles import open_roles
from spladerunner.export.source import Source
from spladerunner.inference import providers
from spladerunner.model.manifest import MANIFEST, GraphRole
from spladerunner.model.provenance import CopyAgreement, ExportManifest, GraphAgreement
from spladerunner.model.sentence_transformers import MaskedLanguageModel
from tests.checkpoints import SMALL, WORDS, add_idf, save_bert
from tests.small_model import SYMMETRIC, TOKENS, SmallGraph, tokenizer
from tests.torch_reference import torch_weights

TEXTS = ["the cat sat on the mat", "river bank naïve", " ".join(WORDS), "x"]

pytestmark = pytest.mark.usefixtures("quiet_libraries")


@pytest.fixture(autouse=True)
def few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "verification_texts", lambda: TEXTS)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def by_optimum(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "model"
    Checkpoint(MaskedLanguageModel(checkpoint)).convert(folder)
    return folder


def as_optimum(folder: Path, _: Path) -> None:
    """As it is: logits, int64 inputs, opset 18."""


def with_external_data(folder: Path, _: Path) -> None:
    """In a folder onnx, with its weights beside it, as optimum leaves large ones."""
    (folder / "onnx").mkdir()
    model = onnx.load(folder / "model.onnx")
    (folder / "model.onnx").unlink()
    onnx.save(model, folder / "onnx" / "model.onnx", save_as_external_data=True, location="model.onnx_data")


def with_other_names(folder: Path, _: Path) -> None:
    """With the inputs of Qdrant/Splade_PP_en_v1."""
    model = onnx.load(folder / "model.onnx")
    new = {"attention_mask": "input_mask", "token_type_ids": "segment_ids"}
    for node in model.graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
    for given in model.graph.input:
        given.name = new.get(given.name, given.name)
    onnx.save(model, folder / "model.onnx")


def with_int32_inputs(folder: Path, _: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    for given in model.graph.input:
        wide = f"{given.name}_wide"
        for node in model.graph.node:
            node.input[:] = [wide if name == given.name else name for name in node.input]
        model.graph.node.insert(0, helper.make_node("Cast", [given.name], [wide], to=TensorProto.INT64))
        given.type.tensor_type.elem_type = TensorProto.INT32
    onnx.save(model, folder / "model.onnx")


def by_torch(folder: Path, checkpoint: Path, head: Callable[[torch.Tensor], Any], opset: int, *outputs: str) -> None:
    """By torch's older exporter, as Anserini's tools run it."""

    class Model(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = BertForMaskedLM.from_pretrained(checkpoint, attn_implementation="eager").eval()

        def forward(self, input_ids: torch.Tensor, token_type_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            return head(self.inner(input_ids, attention_mask, token_type_ids).logits)

    ids = torch.tensor([[2, 7, 8, 9, 3]])
    names = ["input_ids", "token_type_ids", "attention_mask"]
    torch.onnx.export(
        Model(),
        (ids, torch.zeros_like(ids), torch.ones_like(ids)),
        str(folder / "model.onnx"),
        input_names=names,
        output_names=list(outputs),
        dynamic_axes={name: {0: "batch", 1: "seq"} for name in names},
        opset_version=opset,
        dynamo=False,
    )


def in_opset_14(folder: Path, checkpoint: Path) -> None:
    by_torch(folder, checkpoint, lambda logits: logits, 14, "logits")


def as_anserini(folder: Path, checkpoint: Path) -> None:
    """Pooled inside, with the tokens of weights that are not zero as another output, under another file name."""

    def head(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weights = torch.log(1 + torch.relu(logits)).amax(dim=1)[0]
        indices = torch.nonzero(weights).squeeze(1)
        return indices, weights[indices]

    by_torch(folder, checkpoint, head, 14, "output_idx", "output_weights")
    (folder / "model.onnx").rename(folder / "splade-pp-ed.onnx")


def pooled_inside(folder: Path, checkpoint: Path) -> None:
    by_torch(folder, checkpoint, lambda logits: torch.log(1 + torch.relu(logits)).amax(dim=1), 17, "weights")


def published(by_optimum: Path, checkpoint: Path, folder: Path, leave: Callable[[Path, Path], None]) -> Path:
    shutil.copytree(by_optimum, folder)
    leave(folder, checkpoint)
    return folder


def document(folder: Path) -> tuple[ExportManifest, GraphRole]:
    manifest = ExportManifest.read(folder / MANIFEST)
    role = manifest.roles["doc"]
    assert isinstance(role, GraphRole)
    return manifest, role


SPLADE: dict[str, Any] = {"pooling": "max", "activation": "log1p_relu"}
"""Options for a graph without modules.json, as its authors publish them."""


def weights_of(folder: Path, **interpretation: Any) -> np.ndarray:
    rows = np.zeros((len(TEXTS), len(TOKENS)), dtype=np.float32)
    for row, vector in zip(rows, Expander(folder, **interpretation).encode(TEXTS), strict=True):
        row[vector.indices] = vector.values
    return rows


@pytest.mark.parametrize(
    "leave",
    [as_optimum, with_external_data, with_other_names, with_int32_inputs, in_opset_14, as_anserini, pooled_inside],
)
def test_a_graph_becomes_the_bundle_that_its_checkpoint_becomes(
    checkpoint: Path, by_optimum: Path, tmp_path: Path, leave: Callable[[Path, Path], None]
) -> None:
    source = published(by_optimum, checkpoint, tmp_path / "model", leave)
    folder = export_bundle(ExportOptions(source, tmp_path / "bundle", onnx=True, **SPLADE))
    expected, found = torch_weights(checkpoint, TEXTS, max_length=64), weights_of(folder)
    cosines = (expected * found).sum(axis=1) / np.linalg.norm(expected, axis=1) / np.linalg.norm(found, axis=1)
    assert cosines.min() > 0.999
    manifest, role = document(folder)
    assert (role.max_length, role.positions, role.quantization) == (64, 64, "a scale for each column")
    assert manifest.made_by is not None and manifest.verification is not None
    assert manifest.made_by.converter == "as published" and "torch" not in manifest.made_by.versions
    agreement = manifest.verification.roles["doc"]
    assert isinstance(agreement, GraphAgreement) and agreement.fp32_largest_difference <= 1e-4
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "spladerunner export --onnx" in card and "against the published graph by onnxruntime" in card
    from_checkpoint = export_bundle(ExportOptions(checkpoint, tmp_path / "other"))
    sizes = [(each / "doc.onnx.data").stat().st_size for each in (folder, from_checkpoint)]
    assert sizes[0] == sizes[1]
    assert "MultiHeadAttention" in {node.op_type for node in onnx.load(folder / "doc.onnx").graph.node}
    if leave is as_optimum:
        for name in ("doc.onnx", "doc.onnx.data", "tokenizer.json"):
            assert (folder / name).read_bytes() == (from_checkpoint / name).read_bytes(), name


def test_weights_that_a_graph_cannot_hold_are_beside_it(
    by_optimum: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = standard_form.standardize(by_optimum / "model.onnx", tmp_path / "inside.onnx", len(TOKENS))
    monkeypatch.setattr(standard_form, "MOST_BYTES", 1000)
    beside = standard_form.standardize(by_optimum / "model.onnx", tmp_path / "beside.onnx", len(TOKENS))
    assert not (tmp_path / "inside.onnx_data").exists()
    assert (tmp_path / "beside.onnx_data").stat().st_size > beside.path.stat().st_size
    ids = np.array([[2, 7, 8, 9, 3]])
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    sessions = [onnxruntime.InferenceSession(str(graph.path)) for graph in (inside, beside)]
    first, second = (session.run(None, feeds)[0] for session in sessions)
    assert np.array_equal(first, second)


def test_a_graph_for_cuda(checkpoint: Path, by_optimum: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_GPU_DEVICES", {providers.CPU: "cpu"})  # in padded batches, as on a GPU
    folder = export_bundle(ExportOptions(by_optimum, tmp_path / "bundle", onnx=True, **SPLADE, target="cuda"))
    np.testing.assert_allclose(weights_of(folder), torch_weights(checkpoint, TEXTS, max_length=64), atol=0.01)


def quantized(by_optimum: Path, folder: Path) -> Path:
    shutil.copytree(by_optimum, folder)
    quantize_dynamic(by_optimum / "model.onnx", folder / "model.onnx", op_types_to_quantize=["MatMul"])
    return folder


def test_a_graph_that_was_quantized_already_is_kept_and_the_card_says_so(by_optimum: Path, tmp_path: Path) -> None:
    source = quantized(by_optimum, tmp_path / "model")
    expected = weights_of(source, **SYMMETRIC)
    folder = export_bundle(ExportOptions(source, tmp_path / "bundle", onnx=True, **SPLADE))
    assert np.array_equal(weights_of(folder), expected)
    before, after = onnx.load(source / "model.onnx").graph, onnx.load(folder / "doc.onnx").graph
    assert list(before.node) == list(after.node)
    manifest, role = document(folder)
    assert (manifest.weight_type, role.quantization) == ("int8", "as published")
    assert manifest.verification is not None
    agreement = manifest.verification.roles["doc"]
    assert isinstance(agreement, CopyAgreement) and agreement.largest_difference <= 1e-4
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "quantized before this export and is kept as it is" in card and "quantized as published" in card


def test_the_decoder_of_a_quantized_graph_cannot_become_smaller(by_optimum: Path, tmp_path: Path) -> None:
    source = quantized(by_optimum, tmp_path / "model")
    given = tmp_path / "vectors.jsonl"
    given.write_text('{"vector": {"cat": 1}}\n')
    with pytest.raises(CheckpointError, match="has int8 weights; --vocabulary needs a float32 graph"):
        export_bundle(ExportOptions(source, tmp_path / "made", onnx=True, **SPLADE, vocabulary=given))


def test_a_quantized_graph_cannot_become_one_for_cuda(by_optimum: Path, tmp_path: Path) -> None:
    source = quantized(by_optimum, tmp_path / "model")
    with pytest.raises(CheckpointError, match="--for cuda needs a float32 graph"):
        export_bundle(ExportOptions(source, tmp_path / "bundle", onnx=True, **SPLADE, target="cuda"))
    assert not (tmp_path / "bundle").exists()


def test_an_idf_file_weighs_queries_as_for_a_checkpoint(by_optimum: Path, tmp_path: Path) -> None:
    source = add_idf(Path(shutil.copytree(by_optimum, tmp_path / "model")), {"cat": 2.5, "river": 1.25, "[SEP]": 9.0})
    with pytest.raises(CheckpointError, match=r"idf\.json.*--activation log1p_relu"):
        export_bundle(ExportOptions(source, tmp_path / "bundle", onnx=True))
    folder = export_bundle(
        ExportOptions(source, tmp_path / "bundle", onnx=True, pooling="max", activation="log1p_log1p_relu")
    )
    assert Expander(folder).expand_query("the cat river cat") == [{"cat": 2.5, "river": 1.25}]
    assert document(folder)[1].activation == "log1p_log1p_relu"


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, "--pooling and --activation"),
        ({"activation": "relu"}, "--pooling"),
        ({"pooling": "max"}, "--activation"),
    ],
)
def test_a_graph_that_does_not_say_how_it_is_run_is_refused_as_by_an_expander(
    tmp_path: Path, given: dict[str, Any], missing: str
) -> None:
    source = small_published(tmp_path / "model")
    with pytest.raises(CheckpointError, match=rf"does not say how to run it.* publish: {missing}\. Most"):
        export_bundle(ExportOptions(source, tmp_path / "bundle", onnx=True, **given))
    with pytest.raises(ModelFilesError, match="does not say how to run it"):
        Expander(source, **given)


def test_a_known_repository_says_how_its_graph_is_run(tmp_path: Path) -> None:
    source = add_idf(small_published(tmp_path / "model"), {"cat": 2.5})
    known = Source("Qdrant/opensearch-neural-sparse-encoding-doc-v3-gte", source, "a" * 40)
    model = open_roles(known, None, ExportOptions(known.name, tmp_path / "bundle", onnx=True))["doc"]
    assert isinstance(model, OnnxModel) and (model.pooling, model.activation) == ("max", "log1p_log1p_relu")


def test_a_pair_of_graphs(checkpoint: Path, by_optimum: Path, tmp_path: Path) -> None:
    query = published(by_optimum, checkpoint, tmp_path / "model", with_other_names)
    folder = export_bundle(ExportOptions(by_optimum, tmp_path / "bundle", query, onnx=True, **SPLADE))
    assert (folder / "query.onnx.data").read_bytes() == (folder / "doc.onnx.data").read_bytes()
    expander = Expander(folder)
    assert expander.encode(TEXTS) == expander.encode(TEXTS, role="query")


def test_prompts_of_the_layout_come_into_the_roles_of_one_graph(by_optimum: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(by_optimum, tmp_path / "model"))
    kinds = {"": "MLMTransformer", "1_SpladePooling": "SpladePooling"}
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": path} for path, kind in kinds.items()]
    (source / "modules.json").write_text(json.dumps(modules))
    (source / "1_SpladePooling").mkdir()
    (source / "1_SpladePooling" / "config.json").write_text("{}")
    (source / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "the cat ", "document": ""}})
    )
    folder = export_bundle(ExportOptions(source, tmp_path / "bundle", onnx=True))
    roles = ExportManifest.read(folder / MANIFEST).roles
    assert (roles["doc"].prompt, roles["query"].prompt) == (None, "the cat ")
    assert not (folder / "query.onnx").exists()
    expander = Expander(folder)
    assert expander.encode(["river"], role="query") == expander.encode(["the cat river"])


def test_an_activation_that_the_graph_does_not_have_inside_falls_short(
    checkpoint: Path, by_optimum: Path, tmp_path: Path
) -> None:
    source = published(by_optimum, checkpoint, tmp_path / "model", as_anserini)
    with pytest.raises(VerificationError, match="the float32 graph's largest difference"):
        export_bundle(ExportOptions(source, tmp_path / "bundle", onnx=True, activation="relu"))


def small_published(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    tokenizer().save(str(folder / "tokenizer.json"))
    SmallGraph(**changes).save(folder / "model.onnx")
    return folder


def edit(folder: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    model = onnx.load(folder / "model.onnx")
    change(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def of_one_length(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 128


def outside(model: onnx.ModelProto) -> None:
    constant = model.graph.initializer[0]
    constant.ClearField("raw_data")
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="../secret")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), r"has no tokenizer\.json"),
        (lambda folder: (folder / "model.onnx").unlink(), r"has no graph; .* --doc instead of --onnx"),
        (
            lambda folder: [(folder / f"{name}.onnx").write_bytes(b"") for name in ("a", "b")]
            and (folder / "model.onnx").unlink(),
            r"has the graphs \['a\.onnx', 'b\.onnx'\]",
        ),
        (lambda folder: (folder / "model.onnx").write_bytes(b"\xff\xff"), "cannot be read as an ONNX graph"),
        (lambda folder: edit(folder, outside), r"keeps weights in '\.\./secret', which is not a file beside it"),
        (
            lambda folder: edit(folder, of_one_length),
            "takes texts of 128 tokens only",
        ),
        (
            lambda folder: edit(folder, lambda model: setattr(model.graph.input[1], "name", "position_ids")),
            "it takes position_ids; a masked language model takes input_ids",
        ),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_exported_is_told_apart(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    folder = small_published(tmp_path / "model")
    spoil(folder)
    with pytest.raises(CheckpointError, match=message):
        export_bundle(ExportOptions(folder, tmp_path / "bundle", onnx=True, **SPLADE))
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(("size", "message"), [(20, "none of them logits"), (300, "belong to different models")])
def test_logits_over_another_vocabulary_are_refused(tmp_path: Path, size: int, message: str) -> None:
    folder = small_published(tmp_path / "model", vocabulary_size=size)
    with pytest.raises(CheckpointError, match=message):
        export_bundle(ExportOptions(folder, tmp_path / "bundle", onnx=True, **SPLADE))


def test_without_configurations_a_graph_reads_as_many_tokens_as_bert(by_optimum: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(by_optimum, tmp_path / "model"))
    (source / "config.json").unlink()
    config = json.loads((source / "tokenizer_config.json").read_text())
    (source / "tokenizer_config.json").write_text(json.dumps({**config, "model_max_length": 48}))
    folder = export_bundle(ExportOptions(source, tmp_path / "bundle", onnx=True, **SPLADE))
    assert (document(folder)[1].max_length, document(folder)[1].positions) == (48, None)


def test_neither_torch_nor_transformers_nor_optimum_is_imported(by_optimum: Path, tmp_path: Path) -> None:
    """They are made impossible to import, for the command as a user runs it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nfor name in ('torch', 'transformers', 'optimum', 'safetensors'):\n    sys.modules[name] = None\n"
    )
    source = add_idf(Path(shutil.copytree(by_optimum, tmp_path / "model")), {"cat": 2.5})
    command = [sys.executable, "-m", "spladerunner", "export", "--onnx", str(source), "-o", str(tmp_path / "bundle")]
    done = subprocess.run(
        [*command, "--pooling", "max", "--activation", "log1p_relu"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert Expander(tmp_path / "bundle").expand_query("the cat") == [{"cat": 2.5}]
    with_torch = subprocess.run(
        [sys.executable, "-c", "import torch"], env={"PYTHONPATH": str(tmp_path)}, capture_output=True
    )
    assert with_torch.returncode != 0


@pytest.mark.parametrize("family", ["roberta", "modernbert"])
def test_positions_and_rounded_vocabularies_are_as_for_a_checkpoint(tmp_path: Path, family: str) -> None:
    """RoBERTa's positions start after the padding's; ModernBERT rounds its vocabulary up."""
    checkpoint = SMALL[family](tmp_path / "checkpoint")
    Checkpoint(MaskedLanguageModel(checkpoint)).convert(tmp_path / "model")
    roles = [
        document(export_bundle(ExportOptions(source, tmp_path / f"bundle-{onnx}", onnx=onnx, **SPLADE)))[1]
        for source, onnx in ((checkpoint, False), (tmp_path / "model", True))
    ]
    assert (roles[0].max_length, roles[0].positions) == (roles[1].max_length, roles[1].positions)
