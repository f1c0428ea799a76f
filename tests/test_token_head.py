"""BGE-M3's sparse head through the export, against its published formula in torch."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from transformers import AutoTokenizer

from spladerunner import CheckpointError, Expander, VerificationError
from spladerunner.cli.main import main
from spladerunner.export import ExportOptions, export_bundle, pipeline, token_head
from spladerunner.export.convert import convert
from spladerunner.export.passes import fuse_attention
from spladerunner.export.token_head import TokenHeadCheckpoint
from spladerunner.model.manifest import MANIFEST, GraphRole
from spladerunner.model.provenance import ExportManifest, GraphAgreement
from spladerunner.model.sentence_transformers import MaskedLanguageModel
from tests.checkpoints import WORDS, save_bge_m3, save_xlm_roberta
from tests.torch_reference import torch_token_head_weights

TEXTS = [
    "the cat sat on the mat",
    "river bank naïve river",
    " ".join(WORDS) * 3,
    "数据 running données ꙮ",
    "x",
    "the <mask>",
]

pytestmark = pytest.mark.usefixtures("quiet_libraries")


@pytest.fixture(autouse=True)
def few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "verification_texts", lambda: TEXTS)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bge_m3(tmp_path_factory.mktemp("token-head") / "bge-m3")


def test_the_reference_of_an_export_is_the_published_formula(checkpoint: Path) -> None:
    model = TokenHeadCheckpoint(MaskedLanguageModel(checkpoint, "max", "relu", head="token"), allow_pickle=True)
    found = np.stack(list(model.weights_of(TEXTS, 64)))
    np.testing.assert_allclose(found, torch_token_head_weights(checkpoint, TEXTS, 64), rtol=1e-4)


def test_a_bundle_agrees_with_the_published_formula(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    assert main(["export", "--doc", str(checkpoint), "--allow-pickle", "-o", str(folder)]) == 0
    manifest = ExportManifest.read(folder / MANIFEST)
    role = manifest.roles["doc"]
    assert isinstance(role, GraphRole) and manifest.roles["query"] == role
    assert (role.head, role.pooling, role.activation, role.max_length) == ("token", "max", "relu", 64)
    assert manifest.weight_type == "int8" and manifest.verification is not None
    measured = manifest.verification.roles["doc"]
    assert isinstance(measured, GraphAgreement) and measured.fp32_largest_difference <= 1e-4
    assert "a weight for each token of the text alone" in (folder / "README.md").read_text(encoding="utf-8")
    expander = Expander(folder)
    expected = torch_token_head_weights(checkpoint, TEXTS, 64)
    assert np.count_nonzero(expected) > 20
    for vector, weights in zip(expander.encode(TEXTS), expected, strict=True):
        found = np.zeros_like(weights)
        found[vector.indices] = vector.values
        assert found @ weights >= 0.99 * np.linalg.norm(found) * np.linalg.norm(weights)
        assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(weights), rel=0.05)
    assert expander.expand_query(TEXTS) == expander.expand(TEXTS)
    graph = onnx.load(folder / "doc.onnx").graph
    assert "MultiHeadAttention" in {node.op_type for node in graph.node}
    sizes = {constant.name: constant.data_type for constant in graph.initializer if len(constant.dims) > 1}
    assert onnx.TensorProto.INT8 in sizes.values()


def test_fused_attention_is_compared_over_the_whole_vocabulary(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    difference = fuse_attention._difference

    def recorded(before: Path, after: Path, vocabulary_size: int, positions: int) -> float:
        sizes.append(vocabulary_size)
        return difference(before, after, vocabulary_size, positions)

    monkeypatch.setattr(fuse_attention, "_difference", recorded)
    export_bundle(ExportOptions(checkpoint, tmp_path / "bundle", allow_pickle=True))
    assert sizes == [len(AutoTokenizer.from_pretrained(checkpoint))]


def test_a_graph_of_over_2_gb_is_converted_with_its_weights_beside_it(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stores weights beside the graph, as the real size, 568 million weights, requires."""
    converted = convert

    def convert_apart(*arguments: Any) -> Any:
        graph = converted(*arguments)
        onnx.save(graph.model, graph.path, save_as_external_data=True, location="model.onnx_data", size_threshold=64)
        graph.release()
        return graph

    monkeypatch.setattr(token_head, "convert", convert_apart)
    folder = export_bundle(ExportOptions(checkpoint, tmp_path / "bundle", allow_pickle=True))
    assert sorted(path.name for path in folder.glob("doc.onnx*")) == ["doc.onnx", "doc.onnx.data"]
    assert any(Expander(folder).expand(TEXTS))


def test_pickles_are_read_only_if_allowed(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"token head as a pickle, sparse_linear\.pt.*--allow-pickle"):
        export_bundle(ExportOptions(checkpoint, tmp_path / "bundle"))


class Hostile:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("run-by-a-pickle"),)


@pytest.mark.parametrize(
    "content",
    [
        {"weight": torch.zeros(1, 31), "bias": torch.zeros(1)},
        {"weight": torch.zeros(2, 32), "bias": torch.zeros(2)},
        {"weight": torch.zeros(1, 32)},
        {"weight": torch.zeros(1, 32), "bias": torch.zeros(1), "other": torch.zeros(1)},
        torch.zeros(1, 32),
        Hostile(),
        None,
    ],
    ids=["narrow", "two labels", "no bias", "too much", "no names", "hostile", "empty"],
)
def test_a_head_of_anything_but_its_two_tensors_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = save_bge_m3(tmp_path / "bge-m3")
    if content is None:
        (folder / "sparse_linear.pt").write_bytes(b"")
    elif isinstance(content, Hostile):
        (folder / "sparse_linear.pt").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, folder / "sparse_linear.pt")
    with pytest.raises(CheckpointError, match=r"sparse_linear\.pt cannot be read as the tensors .*'weight': \(1, 32\)"):
        export_bundle(ExportOptions(folder, tmp_path / "bundle", allow_pickle=True))
    assert not (tmp_path / "run-by-a-pickle").exists()


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_head_that_is_no_number_is_refused(tmp_path: Path, wrong: float) -> None:
    folder = save_bge_m3(tmp_path / "bge-m3", {"weight": torch.full((1, 32), wrong), "bias": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"infinite or not a number, in classifier\.weight"):
        export_bundle(ExportOptions(folder, tmp_path / "bundle", allow_pickle=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "cuda"}, "token head, which runs on CPUs only.*Leave --for cuda out"),
        ({"vocabulary": "vectors.jsonl"}, "no decoder that could be smaller: leave --vocabulary out"),
        ({"onnx": True}, "a graph without it: --doc instead of --onnx"),
        ({"activation": "log1p_relu"}, "states that its activation is relu, not log1p_relu: leave --activation out"),
        ({"pooling": "sum"}, "states that its pooling is max, not sum: leave --pooling out"),
    ],
)
def test_options_that_do_not_fit_a_token_head_are_refused(
    checkpoint: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        export_bundle(ExportOptions(checkpoint, tmp_path / "bundle", allow_pickle=True, **options))


def test_missing_weights_are_still_an_error(tmp_path: Path) -> None:
    folder = save_bge_m3(tmp_path / "bge-m3")
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    del weights["encoder.layer.0.output.dense.weight"]
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"lack \['roberta.encoder.layer.0.output.dense.weight'\] \(1 in all\)"):
        export_bundle(ExportOptions(folder, tmp_path / "bundle", allow_pickle=True))


def test_a_token_head_that_weighs_wrong_is_found(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = TokenHeadCheckpoint._pool
    monkeypatch.setattr(TokenHeadCheckpoint, "_pool", lambda self, logits, ids: pool(self, logits.flip(0), ids))
    with pytest.raises(VerificationError, match="the float32 graph's largest difference"):
        export_bundle(ExportOptions(checkpoint, tmp_path / "bundle", allow_pickle=True))


def test_a_query_model_may_have_another_head_over_the_same_vocabulary(checkpoint: Path, tmp_path: Path) -> None:
    query = save_xlm_roberta(tmp_path / "query")
    folder = export_bundle(ExportOptions(checkpoint, tmp_path / "bundle", query=query, allow_pickle=True))
    roles = ExportManifest.read(folder / MANIFEST).roles
    assert [role.head for role in roles.values() if isinstance(role, GraphRole)] == ["token", "masked_lm"]
    assert Expander(folder).expand_query("the cat")[0]


def test_the_token_head_of_gte_multilingual_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "gte-multilingual-base"
    folder.mkdir()
    config = {"model_type": "new", "architectures": ["NewModel", "NewForTokenClassification"]}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "modules.json").write_text("[]", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"NewForTokenClassification.*decoded text.*Use BAAI/bge-m3"):
        export_bundle(ExportOptions(folder, tmp_path / "bundle"))
