"""A bundle: the folder that holds a model and says everything about it. The export writes it, this reads and checks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar, get_args

from spladerunner.errors import IntegrityError, ModelFilesError
from spladerunner.pooling import ACTIVATIONS

SCHEMA = 1
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"

RoleName = Literal["doc", "query"]
ROLES: tuple[RoleName, ...] = get_args(RoleName)

_REPAIR = "Fetch or export the bundle again."
_T = TypeVar("_T")


@dataclass(frozen=True)
class Role:
    """What turns texts of one role into vectors: a graph, and the tokens it takes of a text, special ones included."""

    graph: Path
    max_length: int


@dataclass(frozen=True)
class Bundle:
    """A model on disk whose files were checked against its manifest, where it has one.

    vocabulary_size and vocabulary_sha256 are None for a folder without a manifest.
    """

    folder: Path
    name: str
    licence: str
    roles: Mapping[RoleName, Role]
    tokenizer: Path
    activation: str
    weight_type: str
    vocabulary_size: int | None = None
    vocabulary_sha256: str | None = None

    @classmethod
    def open(cls, folder: Path) -> Bundle:
        """Reads a folder that holds a manifest, or else tokenizer.json and model.onnx or onnx/model*.onnx.

        Raises ModelFilesError where it is no such folder or its manifest makes no sense, and IntegrityError where
        a file's size or SHA-256 is not what the manifest says.
        """
        if not folder.is_dir():
            raise ModelFilesError(f"{folder} is not a folder. Give the folder of a bundle, or a model's name.")
        if (folder / MANIFEST).exists():
            return _open_manifest(folder)
        return _open_bare(folder)


def file_record(path: Path) -> dict[str, Any]:
    """The size in bytes and the SHA-256 of a file, as a manifest keeps them."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return {"size": path.stat().st_size, "sha256": digest.hexdigest()}


def _open_manifest(folder: Path) -> Bundle:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFilesError(f"{path} cannot be read: {error}. {_REPAIR}") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else manifest
        raise ModelFilesError(
            f"{path} has the schema {found!r}; this version of spladerunner reads schema {SCHEMA}. "
            "Upgrade spladerunner, or export the bundle again."
        )
    files = _field(path, manifest, "files", dict)
    for name in files:
        _check_file(folder, path, name, _field(path, files, name, dict))

    def member(name: str) -> Path:
        if name not in files:
            raise ModelFilesError(f"{path} names {name}, but its files are {sorted(files)}. {_REPAIR}")
        return folder / name

    roles: dict[RoleName, Role] = {}
    written_roles = _field(path, manifest, "roles", dict)
    for role in ROLES:
        written = _field(path, written_roles, role, dict)
        roles[role] = Role(member(_field(path, written, "graph", str)), _field(path, written, "max_length", int))
    activation = _field(path, manifest, "activation", str)
    if activation not in ACTIVATIONS:
        raise ModelFilesError(
            f"{path} has the activation {activation!r}; this version of spladerunner knows {sorted(ACTIVATIONS)}. "
            "Upgrade spladerunner."
        )
    vocabulary = _field(path, manifest, "vocabulary", dict)
    return Bundle(
        folder=folder,
        name=_field(path, manifest, "name", str),
        licence=_field(path, manifest, "licence", str),
        roles=roles,
        tokenizer=member(TOKENIZER),
        activation=activation,
        weight_type=_field(path, manifest, "weight_type", str),
        vocabulary_size=_field(path, vocabulary, "size", int),
        vocabulary_sha256=_field(path, vocabulary, "sha256", str),
    )


def _field(path: Path, mapping: Mapping[str, Any], key: str, kind: type[_T]) -> _T:
    value = mapping.get(key)
    if not isinstance(value, kind):
        raise ModelFilesError(f"{path} has {key} = {value!r} where a {kind.__name__} belongs. {_REPAIR}")
    return value


def _check_file(folder: Path, manifest: Path, name: str, record: Mapping[str, Any]) -> None:
    pure = PurePosixPath(name)
    # A lexical check: in the Hub's cache the files are links to a folder beside this one.
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name:
        raise ModelFilesError(f"{manifest} names the file {name!r}, which is not inside its folder. Do not use it.")
    path = folder / name
    try:
        size = path.stat().st_size
        found = file_record(path) if size == record.get("size") else {"size": size}
    except OSError as error:
        raise ModelFilesError(f"{path}, which {MANIFEST} names, cannot be read: {error}. {_REPAIR}") from error
    for key, value in found.items():
        if value != record.get(key):
            raise IntegrityError(f"{path} has {key} {value}, but {MANIFEST} says {record.get(key)}. {_REPAIR}")


def _open_bare(folder: Path) -> Bundle:
    """A folder as optimum leaves it, taken for a symmetric SPLADE model."""
    graphs = [folder / "model.onnx", folder / "onnx" / "model.onnx", *sorted(folder.glob("onnx/model*.onnx"))]
    graph = next((path for path in graphs if path.is_file()), None)
    if graph is None or not (folder / TOKENIZER).is_file():
        raise ModelFilesError(
            f"{folder} holds no model: neither {MANIFEST}, nor {TOKENIZER} with model.onnx or onnx/model*.onnx. "
            "A checkpoint becomes a bundle with: spladerunner export --doc CHECKPOINT -o FOLDER"
        )
    role = Role(graph, _bare_max_length(folder))
    return Bundle(
        folder=folder,
        name=folder.resolve().name,
        licence="unknown",
        roles={"doc": role, "query": role},
        tokenizer=folder / TOKENIZER,
        activation="log1p_relu",
        weight_type="unknown",
    )


def _bare_max_length(folder: Path) -> int:
    """What the tokenizer's and the model's configurations allow; 512, as of BERT, where neither says."""
    lengths = [512]
    for name, key in (("tokenizer_config.json", "model_max_length"), ("config.json", "max_position_embeddings")):
        path = folder / name
        if path.is_file():
            try:
                value = json.loads(path.read_text(encoding="utf-8")).get(key)
            except (OSError, ValueError, AttributeError) as error:
                raise ModelFilesError(f"{path} cannot be read: {error}. {_REPAIR}") from error
            if isinstance(value, int):
                lengths.append(value)
    return min(lengths)
