"""Reads a sparse encoder's layout by sentence-transformers: modules.json, and a folder for each module."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from spladerunner.errors import ModelFilesError
from spladerunner.inference.pooling import POOLINGS

MODULES = "modules.json"
ROUTER = "router_config.json"
POOLING_FILES = "*SpladePooling/config.json"

_ACTIVATIONS = {"relu": "log1p_relu", "log1p_relu": "log1p_log1p_relu"}
"""SpladePooling always takes a logarithm and does not name it."""


class MaskedLanguageModel(NamedTuple):
    """A masked language model in a folder, and the pooling of its logits.

    pooling, activation: names in POOLINGS and ACTIVATIONS. max_length: None if the files do not set it.
    """

    folder: Path
    pooling: str = "max"
    activation: str = "log1p_relu"
    max_length: int | None = None


class StaticEmbedding(NamedTuple):
    """A weight for each token, in a folder, without a model."""

    folder: Path


RoleSpec = MaskedLanguageModel | StaticEmbedding


class Layout(NamedTuple):
    """The two roles of a sparse encoder, equal if it is symmetric."""

    doc: RoleSpec
    query: RoleSpec


def read_layout(folder: Path) -> Layout | None:
    """Reads modules.json; None if there is none. Raises ModelFilesError if it describes no SPLADE model."""
    path = folder / MODULES
    if not path.is_file():
        return None
    modules = [(entry["type"], folder / entry["path"]) for entry in _read(path)]
    if len(modules) == 1 and modules[0][0].endswith(".Router"):
        return _read_router(modules[0][1])
    spec = _role_spec(modules, path)
    return Layout(spec, spec)


def _read_router(folder: Path) -> Layout:
    path = folder / ROUTER
    config = _read(path)
    routes = {
        route: _role_spec([(config["types"][name], folder / name) for name in names], path)
        for route, names in config["structure"].items()
    }
    if set(routes) != {"document", "query"}:
        raise ModelFilesError(
            f"{path} has the routes {sorted(routes)}; document and query are needed.",
            path=path,
            expected=["document", "query"],
            found=sorted(routes),
        )
    return Layout(doc=routes["document"], query=routes["query"])


def _role_spec(modules: Sequence[tuple[str, Path]], path: Path) -> RoleSpec:
    kinds = [kind.rsplit(".", 1)[-1] for kind, _ in modules]
    if kinds == ["SparseStaticEmbedding"]:
        return StaticEmbedding(modules[0][1])
    # From version 6 on, sentence-transformers calls the first Transformer.
    if kinds not in (["MLMTransformer", "SpladePooling"], ["Transformer", "SpladePooling"]):
        raise ModelFilesError(
            f"{path} describes a model of {kinds}; a SPLADE model is an MLMTransformer with SpladePooling, or a "
            "SparseStaticEmbedding for queries.",
            path=path,
            expected=["MLMTransformer", "SpladePooling"],
            found=kinds,
        )
    model, config = modules[0][1], modules[1][1] / "config.json"
    values = _read(config)
    pooling = _known(config, "pooling", values.get("pooling_strategy", "max"), POOLINGS)
    activation = _ACTIVATIONS[_known(config, "activation", values.get("activation_function", "relu"), [*_ACTIVATIONS])]
    transformer = model / "sentence_bert_config.json"
    length = _read(transformer).get("max_seq_length") if transformer.is_file() else None
    return MaskedLanguageModel(model, pooling, activation, length)


def _known(path: Path, what: str, value: object, known: Sequence[str]) -> str:
    if value not in known:
        raise ModelFilesError(
            f"{path} has the unknown {what} {value!r}; known are {', '.join(known)}.",
            path=path,
            expected=list(known),
            found=value,
        )
    return str(value)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFilesError(f"{path} cannot be read: {error}.", path=path) from error
