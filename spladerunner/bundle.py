"""A bundle: the folder that holds a model and says everything about it. The export writes it, this reads and checks."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar, get_args

from spladerunner.digest import digest_of_file, digest_of_text
from spladerunner.errors import IntegrityError, ModelFilesError
from spladerunner.layout import MaskedLanguageModel, read_layout
from spladerunner.pooling import ACTIVATIONS, POOLINGS

SCHEMA = 1
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"

RoleName = Literal["doc", "query"]
ROLES: tuple[RoleName, ...] = get_args(RoleName)

_REPAIR = "Fetch or export the bundle again."
_T = TypeVar("_T")


@dataclass(frozen=True)
class GraphRole:
    """Texts become vectors by a graph.

    max_length: the tokens it takes of a text, special ones included. positions: the most that it can take, if known.
    weights: files beside the graph that it reads.
    """

    graph: Path
    max_length: int = field(compare=False)  # roles of other lengths share a graph
    pooling: str = "max"
    activation: str = "log1p_relu"
    positions: int | None = field(default=None, compare=False)
    weights: tuple[Path, ...] = ()


@dataclass(frozen=True)
class TableRole:
    """Texts become vectors by a weight for each of their tokens, (V,) float32 in a NumPy file, and no model."""

    table: Path
    max_length: int = field(compare=False)


Role = GraphRole | TableRole


@dataclass(frozen=True)
class Bundle:
    """A model on disk.

    sha256: of each file that a manifest names. vocabulary_size and vocabulary_sha256: as the manifest says. All are
    empty or None for a folder without a manifest.
    """

    folder: Path
    name: str
    licence: str
    roles: Mapping[RoleName, Role]
    tokenizer: Path
    weight_type: str
    sha256: Mapping[Path, str] = field(default_factory=dict)
    vocabulary_size: int | None = None
    vocabulary_sha256: str | None = None

    @classmethod
    def open(cls, folder: Path) -> Bundle:
        """Reads a folder that holds a manifest, or else tokenizer.json and model.onnx or onnx/model*.onnx.

        Raises ModelFilesError where it is no such folder or its manifest makes no sense, and IntegrityError where
        a file's size is not what the manifest says.
        """
        folder = folder.absolute()  # the files are opened later, maybe from another working directory
        if not folder.is_dir():
            raise ModelFilesError(f"{folder} is not a folder. Give the folder of a bundle, or a model's name.")
        try:
            return _open_manifest(folder) if (folder / MANIFEST).exists() else _open_bare(folder)
        except OSError as error:
            raise ModelFilesError(f"{folder} cannot be read: {error}.") from error

    def check(self, *paths: Path) -> None:
        """Compares files with the manifest's SHA-256, where it has one. Raises IntegrityError where they differ."""
        for path in paths:
            if path in self.sha256:
                try:
                    found = digest_of_file(path)
                except OSError as error:
                    raise _unreadable(path, error) from error
                _check(path, "sha256", found, self.sha256[path])

    def fingerprint(self) -> str:
        """SHA-256, as hex, of the manifest, which has those of all files; without one, over the files themselves."""
        manifest = self.folder / MANIFEST
        if manifest.exists():
            return str(file_record(manifest)["sha256"])
        graphs = {
            role.graph: (role.pooling, role.activation) for role in self.roles.values() if isinstance(role, GraphRole)
        }
        beside = {path for graph in graphs for path in graph.parent.glob(f"{graph.name}*")}  # external weights
        lines = [f"{path.name} {file_record(path)['sha256']}\n" for path in sorted({self.tokenizer, *beside})]
        return digest_of_text("".join([repr(sorted(graphs.values())), *lines]))


def choose_graph(names: Collection[str]) -> str | None:
    """The graph among a folder's or a repository's file names: model.onnx, onnx/model.onnx, or onnx/model*.onnx."""
    variants = sorted(name for name in names if PurePosixPath(name).match("onnx/model*.onnx"))
    return next((name for name in ("model.onnx", "onnx/model.onnx", *variants) if name in names), None)


def file_record(path: Path) -> dict[str, Any]:
    """The size in bytes and the SHA-256 of a file, as a manifest keeps them."""
    return {"size": path.stat().st_size, "sha256": digest_of_file(path)}


def _open_manifest(folder: Path) -> Bundle:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFilesError(f"{path} cannot be read: {error}. {_REPAIR}") from error
    found = manifest.get("schema") if isinstance(manifest, dict) else manifest
    if type(found) is not int or found != SCHEMA:
        raise ModelFilesError(
            f"{path} has the schema {found!r}; this version of spladerunner reads schema {SCHEMA}. "
            "Upgrade spladerunner, or export the bundle again."
        )
    files = _field(path, manifest, "files", dict)
    sha256 = {folder / name: _check_file(folder, path, name, _field(path, files, name, dict)) for name in files}

    def member(name: str) -> Path:
        if name not in files:
            raise ModelFilesError(f"{path} names {name}, but its files are {sorted(files)}. {_REPAIR}")
        return folder / name

    def role(written: Mapping[str, Any]) -> Role:
        max_length = _field(path, written, "max_length", int)
        if "table" in written:
            return TableRole(member(_field(path, written, "table", str)), max_length)
        pooling, activation = _field(path, written, "pooling", str), _field(path, written, "activation", str)
        _check_known(path, "pooling", pooling, POOLINGS)
        _check_known(path, "activation", activation, ACTIVATIONS)
        positions = _field(path, written, "positions", int) if "positions" in written else None
        weights = _field(path, written, "weights", list) if "weights" in written else []
        return GraphRole(
            member(_field(path, written, "graph", str)),
            max_length,
            pooling,
            activation,
            positions,
            tuple(member(str(name)) for name in weights),
        )

    written_roles = _field(path, manifest, "roles", dict)
    roles = {name: role(_field(path, written_roles, name, dict)) for name in ROLES}
    vocabulary = _field(path, manifest, "vocabulary", dict)
    return Bundle(
        folder=folder,
        name=_field(path, manifest, "name", str),
        licence=_field(path, manifest, "licence", str),
        roles=roles,
        tokenizer=member(TOKENIZER),
        weight_type=_field(path, manifest, "weight_type", str),
        sha256=sha256,
        vocabulary_size=_field(path, vocabulary, "size", int),
        vocabulary_sha256=_field(path, vocabulary, "sha256", str),
    )


def _field(path: Path, mapping: Mapping[str, Any], key: str, kind: type[_T]) -> _T:
    value = mapping.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ModelFilesError(f"{path} has {key} = {value!r} where a {kind.__name__} belongs. {_REPAIR}")
    return value


def _check_known(path: Path, key: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise ModelFilesError(
            f"{path} has the {key} {value!r}; this version of spladerunner knows {sorted(known)}. Upgrade spladerunner."
        )


def _check_file(folder: Path, manifest: Path, name: str, record: Mapping[str, Any]) -> str:
    """The SHA-256 that the file should have."""
    pure = PurePosixPath(name)
    # A lexical check: in the Hub's cache the files are links to a folder beside this one.
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name:
        raise ModelFilesError(f"{manifest} names the file {name!r}, which is not inside its folder. Do not use it.")
    path = folder / name
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    _check(path, "size", size, record.get("size"))
    return _field(manifest, record, "sha256", str)


def _unreadable(path: Path, error: Exception) -> ModelFilesError:
    return ModelFilesError(f"{path}, which {MANIFEST} names, cannot be read: {error}. {_REPAIR}")


def _check(path: Path, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise IntegrityError(f"{path} has {what} {found}, but {MANIFEST} says {expected}. {_REPAIR}")


def _open_bare(folder: Path) -> Bundle:
    """A folder as optimum leaves it, taken for a symmetric SPLADE model."""
    name = choose_graph([path.relative_to(folder).as_posix() for path in folder.rglob("*.onnx")])
    if name is None or not (folder / TOKENIZER).is_file():
        raise ModelFilesError(
            f"{folder} holds no model: neither {MANIFEST}, nor {TOKENIZER} with model.onnx or onnx/model*.onnx. "
            "A checkpoint becomes a bundle with: spladerunner export --doc CHECKPOINT -o FOLDER"
        )
    layout = read_layout(folder)
    side = layout.doc if layout else MaskedLanguageModel(folder)
    if not isinstance(side, MaskedLanguageModel) or (layout and layout.query != side):
        raise ModelFilesError(
            f"{folder} has different sides for documents and queries, which one graph cannot serve. "
            f"Make a bundle of it: spladerunner export --doc {folder} -o FOLDER"
        )
    graph = folder / name
    max_length = side.max_length or _bare_max_length(folder)
    role = GraphRole(graph, max_length, side.pooling, side.activation)
    return Bundle(
        folder=folder,
        name=folder.resolve().name,
        licence="unknown",
        roles={"doc": role, "query": role},
        tokenizer=folder / TOKENIZER,
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
            except (OSError, ValueError, RecursionError, AttributeError) as error:
                raise ModelFilesError(f"{path} cannot be read: {error}. {_REPAIR}") from error
            if isinstance(value, int):
                lengths.append(value)
    return min(lengths)
