"""Configurations of GTE checkpoints that were published with remote code, as transformers' own class has them.

Such a checkpoint names its class Alibaba-NLP/new-impl--modeling.NewForMaskedLM. transformers 5.13 has the same model as
GteForMaskedLM, which takes the weights; no remote code is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spladerunner.errors import CheckpointError
from spladerunner.model.json_file import decode_json

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_AS_IT_IS = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id", "tie_word_embeddings"),
)
_TOKEN_HEAD = "NewForTokenClassification"
_ONLY = {"position_embedding_type": "rope", "layer_norm_type": "layer_norm", "logn_attention_scale": False}
"""Settings that GteForMaskedLM computes; each is the default of the remote class."""


def read_gte_config(folder: Path) -> PretrainedConfig | None:
    """The configuration of a GTE checkpoint with remote code, None for any other.

    Raises CheckpointError if transformers is older than 5.13, or the checkpoint computes something that GteForMaskedLM
    does not.
    """
    path = folder / "config.json"
    config: Any = decode_json(path.read_bytes(), path)
    if config.get("model_type") != "new" or "NewForMaskedLM" not in str(config.get("auto_map")):
        return None
    try:
        from transformers import GteConfig
    except ImportError as error:
        raise CheckpointError(
            f"{folder} is a GTE model, which needs transformers 5.13 or newer: pip install "
            "'spladerunner[export-transformers-5]', or export its ONNX graph with --onnx.",
            path=folder,
        ) from error
    for name, value in _ONLY.items():
        if config.get(name, value) != value:
            raise CheckpointError(
                f"{folder} has {name} = {config[name]!r} in its config.json; only {value!r} is known.", path=folder
            )
    return GteConfig(
        **{name: config[name] for name in _AS_IT_IS if name in config}, rope_parameters=_rope(config, folder)
    )


def refuse_token_head(folder: Path) -> None:
    """Raises CheckpointError for gte-multilingual-base, whose weights are not of the vocabulary's tokens.

    Its published code, gte_embedding.py, keeps the largest weight of each decoded text, and decodes "▁the" and "the" to
    the same.
    """
    path = folder / "config.json"
    config: Any = decode_json(path.read_bytes(), path) if path.is_file() else {}
    if isinstance(config, dict) and _TOKEN_HEAD in str(config.get("architectures")):
        raise CheckpointError(
            f"{folder} has the token head of GTE ({_TOKEN_HEAD}). Its authors weigh pieces of decoded text, in which "
            "several tokens of the vocabulary are one, so there is no vector over the vocabulary. Use BAAI/bge-m3.",
            path=folder,
        )


def _rope(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Rotary positions. The remote class knows one way to scale them, NTK with a fixed factor:

    frequency_i = (theta · factor) ** (-2i / size) / factor ** (2 / size)
    """
    theta = float(config.get("rope_theta", 10_000.0))
    scaling = config.get("rope_scaling")
    if not scaling:
        return {"rope_type": "default", "rope_theta": theta}
    if scaling.get("type") != "ntk" or scaling.get("mixed_b") is not None:
        raise CheckpointError(
            f"{folder} has rope_scaling = {scaling!r} in its config.json; only the type 'ntk', without mixed_b, is "
            "known.",
            path=folder,
        )
    factor, size = float(scaling["factor"]), config["hidden_size"] // config["num_attention_heads"]
    return {"rope_type": "linear", "rope_theta": theta * factor, "factor": factor ** (2 / size)}
