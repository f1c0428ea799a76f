"""The names that other programs may import: PUBLIC lists all of them, and this test guards them."""

from __future__ import annotations

import ast
import builtins
import collections.abc
import dataclasses
import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Iterator
from typing import Any

import numpy.typing as npt
import pytest

PUBLIC = {
    "spladerunner": [
        "CheckpointError",
        "CollectionError",
        "Comparison",
        "DownloadError",
        "Expander",
        "Explanation",
        "InputError",
        "IntegrityError",
        "MissingExtraError",
        "ModelFilesError",
        "ModelSpec",
        "OutputError",
        "Passage",
        "Provider",
        "ProviderError",
        "RoleName",
        "SharedToken",
        "Span",
        "SparseVector",
        "SpladeRunnerError",
        "TokenCount",
        "UnknownModelError",
        "UploadError",
        "VerificationError",
        "Vocabulary",
        "compare",
        "fetch",
        "list_models",
        "push",
    ],
    "spladerunner.formats": [
        "DEFAULT",
        "FORMATS",
        "MOST_IN_HNSW",
        "WITH_PAYLOAD",
        "Impacts",
        "IndicesAndValues",
        "LineFormatter",
        "PayloadFormatter",
        "anserini",
        "anserini_topic",
        "csr",
        "elasticsearch",
        "elasticsearch_query",
        "from_anserini",
        "from_anserini_topic",
        "from_csr",
        "from_features",
        "from_impacts",
        "from_indices",
        "from_milvus",
        "from_pgvector",
        "from_tokens",
        "from_vespa",
        "impact_scale",
        "impacts",
        "indices",
        "milvus",
        "milvus_query",
        "opensearch",
        "opensearch_query",
        "pgvector",
        "qdrant",
        "qdrant_id",
        "rank_features_query",
        "read_ciff",
        "seismic",
        "tokens",
        "vespa",
        "write_ciff",
    ],
    "spladerunner.parquet": ["Part", "Parts", "open_parts", "read_vectors"],
    "spladerunner.readers": ["Fields", "Input", "Record", "read_records"],
    "spladerunner.bulk": ["Progress", "Shard", "Windows", "encode"],
    "spladerunner.distributed.ray": ["encode"],
    "spladerunner.distributed.spark": ["encode"],
    "spladerunner.export": ["ExportOptions", "Progress", "Target", "export_bundle"],
}

# Modules without __all__, whose names without an underscore may be imported: they need the extra `eval`.
PUBLIC_MODULES = [
    f"spladerunner.evaluation.{name}"
    for name in (
        "bm25",
        "collection",
        "fusion",
        "index_statistics",
        "means",
        "measures",
        "report",
        "results",
        "search",
        "systems",
        "tables",
    )
]

# Types of other packages.
EXTERNAL = {id(value) for module in (builtins, typing, collections.abc, types, npt) for value in vars(module).values()}


def public_objects(name: str) -> Iterator[tuple[str, Any]]:
    module = importlib.import_module(name)
    for attribute in PUBLIC[name]:
        yield attribute, getattr(module, attribute)


def annotations_of(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The annotations of a function, or of the fields and public methods of a class, each with its globals."""
    if inspect.isclass(value) and value.__module__.startswith("spladerunner"):
        scope = vars(importlib.import_module(value.__module__))
        for annotation in vars(value).get("__annotations__", {}).values():
            yield annotation, scope
        for name, member in vars(value).items():
            if name == "__init__" or not name.startswith("_"):
                function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
                if inspect.isfunction(function):
                    yield from annotations_of(function)
    elif inspect.isfunction(value):
        for annotation in value.__annotations__.values():
            yield annotation, value.__globals__


def types_in(annotation: Any, scope: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The types that a postponed annotation names, but for those of other packages."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", repr(annotation))
    for node in ast.walk(ast.parse(text, mode="eval")):
        if isinstance(node, ast.Name):
            value = scope.get(node.id)
            module = getattr(value, "__module__", "") or ""
            if id(value) not in EXTERNAL and (module.startswith("spladerunner") or module in ("", "typing", "types")):
                yield node.id, value


@pytest.mark.parametrize("name", PUBLIC)
def test_the_public_names_are_these(name: str) -> None:
    module = importlib.import_module(name)
    assert list(module.__all__) == sorted(module.__all__, key=lambda each: (not each.isupper(), each.islower(), each))
    assert sorted(module.__all__) == sorted(PUBLIC[name])
    assert all(hasattr(module, attribute) for attribute in module.__all__)


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_the_modules_of_the_evaluation_are_documented(name: str) -> None:
    module = importlib.import_module(name)
    names = {attribute for attribute, value in vars(module).items() if getattr(value, "__module__", "") == name}
    assert module.__doc__ and any(not attribute.startswith("_") for attribute in names)


@pytest.mark.parametrize("name", PUBLIC)
def test_types_of_public_signatures_are_public(name: str) -> None:
    public = {id(value) for module in PUBLIC for _, value in public_objects(module)}
    missing = {
        f"{attribute}: {found}"
        for attribute, value in public_objects(name)
        for annotation, scope in annotations_of(value)
        for found, kind in types_in(annotation, scope)
        if kind is not None and not isinstance(kind, types.ModuleType) and id(kind) not in public
    }
    assert not missing


def test_a_private_type_in_a_signature_is_found() -> None:
    from spladerunner.inference.tokenizer import TokenizedText, Tokenizer

    found = {kind for text, scope in annotations_of(Tokenizer.encode) for _, kind in types_in(text, scope)}
    assert found == {TokenizedText}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_objects_are_documented(name: str) -> None:
    undocumented = {
        attribute
        for attribute, value in public_objects(name)
        if (isinstance(value, type) or inspect.isfunction(value))
        and not isinstance(value, types.GenericAlias)  # which Python 3.10 takes for a type
        and not inspect.getdoc(value)
    }
    assert not undocumented


OPTIONS_BY_POSITION = {
    "spladerunner.Expander": ["max_length"],  # as in SPLADERunner 0.1
    "spladerunner.SparseVector.prune": ["min_weight"],
    "spladerunner.SparseVector.to_scipy": ["size"],
}
"""Optional arguments that may be given by position; all others of these classes are given by name."""


@pytest.mark.parametrize("kind", ["Expander", "SparseVector", "Vocabulary"])
def test_options_are_given_by_name(kind: str) -> None:
    made = getattr(importlib.import_module("spladerunner"), kind)
    methods = {f".{name}": value for name, value in vars(made).items() if inspect.isfunction(value) and name[0] != "_"}
    for name, function in {"": made, **methods}.items():
        label = f"spladerunner.{kind}{name}"
        found = [
            each.name
            for each in inspect.signature(function).parameters.values()
            if each.kind is not each.KEYWORD_ONLY and each.default is not each.empty and each.name != "model"
        ]
        assert found == OPTIONS_BY_POSITION.get(label, []), label


def test_the_data_of_an_error_is_given_by_name() -> None:
    errors = importlib.import_module("spladerunner.errors")
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.SpladeRunnerError):
            _, *data = inspect.signature(kind).parameters.values()
            assert all(each.kind in (each.KEYWORD_ONLY, each.VAR_KEYWORD, each.VAR_POSITIONAL) for each in data), name


def test_records_are_frozen() -> None:
    """Checks the records of public modules; a record that one function uses alone is left out."""
    package = importlib.import_module("spladerunner")
    seen = 0
    for info in pkgutil.walk_packages(package.__path__, "spladerunner."):
        if info.name.startswith(("spladerunner.export", "spladerunner.distributed", "spladerunner.__main__")):
            continue
        for name, kind in vars(importlib.import_module(info.name)).items():
            if isinstance(kind, type) and kind.__module__ == info.name and dataclasses.is_dataclass(kind):
                seen += 1
                assert name.startswith("_") or kind.__dataclass_params__.frozen, (info.name, name)  # type: ignore[attr-defined]
    assert seen > 30


def test_nothing_is_public_or_overwritten_on_the_hub_unless_asked() -> None:
    options = inspect.signature(importlib.import_module("spladerunner").push).parameters
    assert options["public"].default is False and options["overwrite"].default is False
