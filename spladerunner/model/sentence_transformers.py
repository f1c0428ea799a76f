"""Reads a sparse encoder's layout by sentence-transformers: modules.json, and a folder for each module."""

# Annotations are not postponed here, as in manifest.py.
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from spladerunner.errors import ModelFilesError
from spladerunner.inference.pooling import POOLINGS
from spladerunner.model.content import is_inside, is_there
from spladerunner.model.json_file import REPAIR, read_fields
from spladerunner.model.transformers_files import as_length

MODULES = "modules.json"
ROUTER = "router_config.json"
PROMPTS = "config_sentence_transformers.json"
LENGTH = "sentence_bert_config.json"
POOLING_FILES = "*SpladePooling/config.json"
STATIC_FILES = "*SparseStaticEmbedding/model.safetensors"

_ACTIVATIONS = {"relu": "log1p_relu", "log1p_relu": "log1p_log1p_relu"}
"""SpladePooling always takes a logarithm and does not name it."""

_OTHER_NAMES = {"document": ("passage", "corpus"), "query": ()}
"""The prompts of sentence-transformers by what they come before, and other names that it may take in their place."""


class MaskedLanguageModel(NamedTuple):
    """A masked language model in a folder, and the pooling of its logits.

    pooling, activation: names in POOLINGS and ACTIVATIONS. max_length: None if the files do not set it. prompt: the
    model reads it before every text; None if there is none. head: a name in HEADS; "token" if the masked-LM head is
    replaced by one that weighs the tokens of a text.
    """

    folder: Path
    pooling: str = "max"
    activation: str = "log1p_relu"
    max_length: int | None = None
    prompt: str | None = None
    head: str = "masked_lm"


class StaticEmbedding(NamedTuple):
    """A weight for each token, in a folder, without a model. prompt: as in MaskedLanguageModel."""

    folder: Path
    prompt: str | None = None


RoleSpec = MaskedLanguageModel | StaticEmbedding


class Layout(NamedTuple):
    """The two roles of a sparse encoder, equal if it is symmetric."""

    doc: RoleSpec
    query: RoleSpec


@dataclass(frozen=True)
class _Module:
    type: str
    path: str


@dataclass(frozen=True)
class _Router:
    types: Mapping[str, str]
    structure: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class _SpladePooling:
    """The defaults are those of sentence-transformers."""

    pooling_strategy: str = "max"
    activation_function: str = "relu"


@dataclass(frozen=True)
class _Transformer:
    max_seq_length: int | None = None


@dataclass(frozen=True)
class _Prompts:
    prompts: Mapping[str, str] | None = None
    default_prompt_name: str | None = None


def read_layout(folder: Path) -> Layout | None:
    """Reads modules.json, and the files that it leads to; None if there is none.

    Raises ModelFilesError if they are not valid, describe no SPLADE model, or lead out of the folder.
    """
    path = folder / MODULES
    if not is_there(path):
        return None
    modules: tuple[_Module, ...] = read_fields(tuple[_Module, ...], path)
    if len(modules) == 1 and modules[0].type.endswith(".Router"):
        layout = _read_router(_within(folder, modules[0].path, path))
    else:
        spec = _role_spec([(module.type, _within(folder, module.path, path)) for module in modules], path)
        layout = Layout(spec, spec)
    prompts = _read_prompts(folder)
    return Layout(layout.doc._replace(prompt=prompts["document"]), layout.query._replace(prompt=prompts["query"]))


def _read_router(folder: Path) -> Layout:
    path = folder / ROUTER
    config: _Router = read_fields(_Router, path)
    if set(config.structure) != {"document", "query"}:
        raise ModelFilesError(
            f"{path} has the routes {sorted(config.structure)}; document and query are needed.",
            path=path,
            expected=["document", "query"],
            found=sorted(config.structure),
        )
    routes = {
        route: _role_spec([(_type_of(name, config, path), _within(folder, name, path)) for name in names], path)
        for route, names in config.structure.items()
    }
    return Layout(doc=routes["document"], query=routes["query"])


def _type_of(name: str, config: _Router, path: Path) -> str:
    if name not in config.types:
        raise ModelFilesError(
            f"{path} has no types.{name}, which its structure names. {REPAIR}", path=path, expected=f"types.{name}"
        )
    return config.types[name]


def _within(folder: Path, name: str, path: Path) -> Path:
    if not is_inside(name):
        raise ModelFilesError(
            f"{path} names the folder {name!r}, which is not inside the model's. Do not use it.", path=path, found=name
        )
    return folder / name


def _read_prompts(folder: Path) -> dict[str, str | None]:
    """The prompt that encode_document and encode_query of sentence-transformers put before a text."""
    path = folder / PROMPTS
    if not is_there(path):
        return {"document": None, "query": None}
    config: _Prompts = read_fields(_Prompts, path)
    prompts = config.prompts or {}
    if config.default_prompt_name not in (None, "document", "query", *prompts):
        raise ModelFilesError(
            f"{path} has default_prompt_name = {config.default_prompt_name!r}, which is none of its prompts: "
            f"{', '.join(prompts)}. {REPAIR}",
            path=path,
            expected=sorted(prompts),
            found=config.default_prompt_name,
        )
    for route, others in _OTHER_NAMES.items():
        unclear = [name for name in (*others, config.default_prompt_name) if name and prompts.get(name)]
        if route not in prompts and unclear:
            raise ModelFilesError(
                f"{path} has no prompt {route!r}, but {unclear[0]!r}, which versions of sentence-transformers apply "
                f"differently. Say in the file what comes before a {route}: an empty text, or that prompt's.",
                path=path,
                expected=route,
                found=unclear[0],
            )
    return {route: prompts.get(route) or None for route in _OTHER_NAMES}


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
    values: _SpladePooling = read_fields(_SpladePooling, config)
    pooling = _known(config, "pooling", values.pooling_strategy, POOLINGS)
    activation = _ACTIVATIONS[_known(config, "activation", values.activation_function, [*_ACTIVATIONS])]
    return MaskedLanguageModel(model, pooling, activation, _max_seq_length(model / LENGTH))


def _max_seq_length(path: Path) -> int | None:
    if not is_there(path):
        return None
    config: _Transformer = read_fields(_Transformer, path)
    return None if config.max_seq_length is None else as_length(config.max_seq_length, path, "max_seq_length")


def _known(path: Path, what: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise ModelFilesError(
            f"{path} has the unknown {what} {value!r}; known are {', '.join(known)}.",
            path=path,
            expected=list(known),
            found=value,
        )
    return value
