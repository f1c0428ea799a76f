"""How sentence-transformers lays a sparse encoder out in a folder: modules.json, and a folder for each module."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from spladerunner.errors import ModelFilesError

MODULES = "modules.json"
ROUTER = "router_config.json"
POOLING_FILES = "*SpladePooling/config.json"

_ACTIVATIONS = {"relu": "log1p_relu", "log1p_relu": "log1p_log1p_relu"}
"""SpladePooling's names, which leave the logarithm that it always takes unsaid."""


class MaskedLanguageModel(NamedTuple):
    """One side: a masked language model in a folder, and what is done to its logits. max_length is None if unsaid."""

    folder: Path
    pooling: str = "max"
    activation: str = "log1p_relu"
    max_length: int | None = None


class StaticEmbedding(NamedTuple):
    """One side: a weight for each token, and no model."""

    folder: Path


Side = MaskedLanguageModel | StaticEmbedding


class Layout(NamedTuple):
    """The two sides of a sparse encoder, which are one and the same where it is symmetric."""

    doc: Side
    query: Side


def read_layout(folder: Path) -> Layout | None:
    """What modules.json says, or None where there is none.

    Raises ModelFilesError where it describes something that is not made of these parts.
    """
    path = folder / MODULES
    if not path.is_file():
        return None
    modules = [(entry["type"], folder / entry["path"]) for entry in _read(path)]
    if len(modules) == 1 and modules[0][0].endswith(".Router"):
        return _read_router(modules[0][1])
    side = _side(modules, path)
    return Layout(side, side)


def _read_router(folder: Path) -> Layout:
    path = folder / ROUTER
    config = _read(path)
    routes = {
        route: _side([(config["types"][name], folder / name) for name in names], path)
        for route, names in config["structure"].items()
    }
    if set(routes) != {"document", "query"}:
        raise ModelFilesError(f"{path} has the routes {sorted(routes)}, where document and query are needed.")
    return Layout(doc=routes["document"], query=routes["query"])


def _side(modules: Sequence[tuple[str, Path]], path: Path) -> Side:
    kinds = [kind.rsplit(".", 1)[-1] for kind, _ in modules]
    if kinds == ["SparseStaticEmbedding"]:
        return StaticEmbedding(modules[0][1])
    # From version 6 on, sentence-transformers calls the first Transformer.
    if kinds not in (["MLMTransformer", "SpladePooling"], ["Transformer", "SpladePooling"]):
        raise ModelFilesError(
            f"{path} describes a model of {kinds}; a SPLADE model is an MLMTransformer with SpladePooling, or a "
            "SparseStaticEmbedding for queries."
        )
    model = modules[0][1]
    pooling = _read(modules[1][1] / "config.json")
    activation = pooling.get("activation_function", "relu")
    if activation not in _ACTIVATIONS:
        raise ModelFilesError(f"{modules[1][1] / 'config.json'} has the unknown activation {activation!r}.")
    transformer = model / "sentence_bert_config.json"
    length = _read(transformer).get("max_seq_length") if transformer.is_file() else None
    return MaskedLanguageModel(model, pooling.get("pooling_strategy", "max"), _ACTIVATIONS[activation], length)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFilesError(f"{path} cannot be read: {error}.") from error
