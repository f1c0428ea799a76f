"""GTE, as OpenSearch's doc-v3-gte is published: a checkpoint with remote code, and raw ONNX with an idf.json.

transformers has the model from 5.13 on: `make test` runs these in an environment with it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from safetensors.torch import save_file

from spladerunner import CheckpointError, Expander
from spladerunner.export import ExportOptions, export_bundle, pipeline
from spladerunner.export.checkpoint import Checkpoint
from spladerunner.export.gte import read_gte_config
from spladerunner.model.manifest import MANIFEST, GraphRole, Manifest, TokenWeightsRole
from spladerunner.model.sentence_transformers import MaskedLanguageModel
from tests.checkpoints import WORDS, add_idf, save_tokenizer, sizes
from tests.small_model import TOKENS

TEXTS = ["the cat sat on the mat", "river bank naïve", " ".join(WORDS), "x"]
HAS_GTE = hasattr(transformers, "GteForMaskedLM")
NTK = {"type": "ntk", "factor": 2.0}

needs_gte = pytest.mark.skipif(not HAS_GTE, reason="GTE is part of transformers from 5.13 on")
pytestmark = pytest.mark.usefixtures("quiet_libraries")


@pytest.fixture(autouse=True)
def few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "verification_texts", lambda: TEXTS)


def save_config(folder: Path, **changes: Any) -> Path:
    """config.json as Alibaba-NLP's English models have it, with one layer."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        **sizes(len(TOKENS)),
        "architectures": ["NewForMaskedLM"],
        "auto_map": {"AutoModelForMaskedLM": "Alibaba-NLP/new-impl--modeling.NewForMaskedLM"},
        "model_type": "new",
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "layer_norm_type": "layer_norm",
        "logn_attention_scale": False,
        "pack_qkv": True,
        "pad_token_id": 0,
        "position_embedding_type": "rope",
        "rope_scaling": NTK,
        "rope_theta": 500000,
        "type_vocab_size": 0,
        **changes,
    }
    (folder / "config.json").write_text(json.dumps({name: config[name] for name in config if config[name] is not ...}))
    return folder


def save_gte(folder: Path, **changes: Any) -> tuple[Path, Any]:
    """A random checkpoint under the names of the remote class, and the model that it holds."""
    save_config(folder, **changes)
    torch.manual_seed(0)
    model = transformers.GteForMaskedLM(read_gte_config(folder)).eval()
    torch.nn.init.normal_(model.lm_head.decoder.bias)
    save_file(remote_names(model.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})
    save_tokenizer(folder)
    return folder, model


def remote_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Queries, keys and values in one matrix, up and gate in another, as NewForMaskedLM keeps them."""
    state = dict(state)
    made = {
        "lm_head.dense.weight": state.pop("lm_head.dense.weight"),
        "lm_head.dense.bias": state.pop("lm_head.dense.bias"),
        "lm_head.norm.weight": state.pop("lm_head.layer_norm.weight"),
        "lm_head.norm.bias": state.pop("lm_head.layer_norm.bias"),
        "lm_head.decoder.bias": state.pop("lm_head.decoder.bias"),
    }
    state.pop("lm_head.decoder.weight")  # tied
    renamed = {
        "self_attn.o_proj": "attention.o_proj",
        "post_attention_layernorm": "attn_ln",
        "post_mlp_layernorm": "mlp_ln",
        "mlp.down_proj": "mlp.down_proj",
    }
    for name, tensor in state.items():
        place = name.removeprefix("gte.")
        if not place.startswith("layers."):
            made[f"new.{place}"] = tensor
            continue
        _, layer, rest = place.split(".", 2)
        part, kind = rest.rsplit(".", 1)
        prefix = f"new.encoder.layer.{layer}"
        if part == "self_attn.q_proj":
            parts = [state[f"gte.layers.{layer}.self_attn.{each}_proj.{kind}"] for each in "qkv"]
            made[f"{prefix}.attention.qkv_proj.{kind}"] = torch.cat(parts)
        elif part == "mlp.up_proj":
            parts = [state[f"gte.layers.{layer}.mlp.{each}_proj.{kind}"] for each in ("up", "gate")]
            made[f"{prefix}.mlp.up_gate_proj.{kind}"] = torch.cat(parts)
        elif part in renamed:
            made[f"{prefix}.{renamed[part]}.{kind}"] = tensor
    return {name: tensor.clone().contiguous() for name, tensor in made.items()}


def published_weights(model: Any, folder: Path) -> np.ndarray:
    """The card's formula, log(1 + log(1 + relu)) of the largest logit, in torch; special tokens zero."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = []
    with torch.inference_mode():
        for text in TEXTS:
            tokens = tokenizer(text, return_tensors="pt")
            logits = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits[0]
            rows.append(torch.log1p(torch.log1p(torch.relu(logits))).amax(dim=0).numpy())
    weights = np.stack(rows)
    weights[:, tokenizer.all_special_ids] = 0
    return weights


def check(folder: Path, expected: np.ndarray) -> None:
    expander = Expander(folder)
    found = np.zeros_like(expected)
    for row, vector in zip(found, expander.encode(TEXTS), strict=True):
        row[vector.indices] = vector.values
    cosines = (expected * found).sum(axis=1) / np.linalg.norm(expected, axis=1) / np.linalg.norm(found, axis=1)
    assert cosines.min() > 0.99
    assert expander.expand_query("the cat river cat") == [{"cat": 2.5, "river": 1.25}]
    roles = Manifest.read(folder / MANIFEST).roles
    assert isinstance(roles["doc"], GraphRole) and isinstance(roles["query"], TokenWeightsRole)
    assert (roles["doc"].activation, roles["doc"].max_length) == ("log1p_log1p_relu", 64)
    operators = [node.op_type for node in onnx.load(folder / "doc.onnx").graph.node]
    assert operators.count("MultiHeadAttention") == 1 and "Softmax" not in operators


@needs_gte
def test_a_checkpoint_and_its_onnx_layout_without_remote_code(tmp_path: Path) -> None:
    checkpoint, model = save_gte(tmp_path / "checkpoint")
    add_idf(checkpoint, {"cat": 2.5, "river": 1.25})
    expected = published_weights(model, checkpoint)
    options = ExportOptions(checkpoint, tmp_path / "bundle", activation="log1p_log1p_relu")
    check(export_bundle(options), expected)
    onnx_layout = tmp_path / "onnx-layout"
    Checkpoint(MaskedLanguageModel(checkpoint)).convert(onnx_layout)
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json", "idf.json"):
        (onnx_layout / name).write_bytes((checkpoint / name).read_bytes())
    options = ExportOptions(onnx_layout, tmp_path / "other", pooling="max", activation="log1p_log1p_relu", onnx=True)
    check(export_bundle(options), expected)


@needs_gte
@pytest.mark.parametrize("scaling", [None, NTK])
def test_rotary_frequencies_are_those_of_the_remote_class(tmp_path: Path, scaling: dict[str, Any] | None) -> None:
    """By its code: theta is multiplied by the factor, and frequencies divided by factor ** (2 / size)."""
    config = read_gte_config(save_config(tmp_path / "checkpoint", rope_scaling=scaling))
    found = transformers.GteForMaskedLM(config).gte.rotary_emb.inv_freq.numpy()
    size = 16
    powers = np.arange(0, size, 2) / size
    expected = 1 / 500000**powers if scaling is None else 1 / (500000 * 2) ** powers / 2 ** (2 / size)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@needs_gte
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position_embedding_type": "absolute"}, r"position_embedding_type = 'absolute'.*only 'rope' is known"),
        ({"layer_norm_type": "rms_norm"}, r"layer_norm_type = 'rms_norm'"),
        ({"logn_attention_scale": True}, r"logn_attention_scale = True"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, r"rope_scaling = \{'type': 'yarn'"),
        ({"rope_scaling": {**NTK, "mixed_b": 0.5}}, r"'mixed_b': 0\.5"),
    ],
)
def test_what_transformers_does_not_compute_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_gte_config(save_config(tmp_path / "checkpoint", **changes))


@pytest.mark.parametrize("change", [{"model_type": "bert"}, {"auto_map": ...}])
def test_other_checkpoints_are_left_to_transformers(tmp_path: Path, change: dict[str, Any]) -> None:
    assert read_gte_config(save_config(tmp_path / "checkpoint", **change)) is None


@pytest.mark.skipif(HAS_GTE, reason="this transformers has GTE")
def test_an_older_transformers_is_an_error_with_the_pip_command(tmp_path: Path) -> None:
    folder = save_config(tmp_path / "checkpoint")
    (folder / "model.safetensors").write_bytes(b"")
    save_tokenizer(folder)
    with pytest.raises(CheckpointError, match=r"transformers 5\.13 or newer: pip install .*export-transformers-5"):
        export_bundle(ExportOptions(folder, tmp_path / "bundle"))
