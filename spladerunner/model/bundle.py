"""A bundle: the folder of a model. Export writes it; this module opens it and checks its files."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import NamedTuple

from spladerunner.errors import IntegrityError, ModelFilesError
from spladerunner.log import debug
from spladerunner.model.integrity import digest_of_file, digest_of_text
from spladerunner.model.manifest import MANIFEST, FileRecord, GraphRole, Manifest, Role, RoleName, VocabularyRecord

TOKENIZER = "tokenizer.json"

_REPAIR = "Fetch or export the bundle again."


class Bundle(NamedTuple):
    """A model on disk.

    files, vocabulary: as the manifest records them; empty and None for a folder without a manifest.
    """

    folder: Path
    name: str
    license: str
    roles: Mapping[RoleName, Role]
    files: Mapping[str, FileRecord] = MappingProxyType({})
    vocabulary: VocabularyRecord | None = None

    @classmethod
    def open(cls, folder: Path) -> Bundle:
        """Opens a folder with a manifest, or with tokenizer.json and model.onnx or onnx/model*.onnx.

        Raises ModelFilesError if the folder has neither or its manifest is not valid, and IntegrityError if the size
        of a file differs from the manifest.
        """
        folder = folder.absolute()  # files are opened later, maybe from another working directory
        if not folder.is_dir():
            raise ModelFilesError(
                f"{folder} is not a folder. Give the folder of a bundle, or a model's name.", path=folder
            )
        try:
            return _open_bundle(folder) if (folder / MANIFEST).exists() else _open_bare(folder)
        except OSError as error:
            raise ModelFilesError(f"{folder} cannot be read: {error}.", path=folder) from error

    def path(self, name: str) -> Path:
        """The path of a file that a role or the manifest names."""
        return self.folder / name

    @property
    def tokenizer(self) -> Path:
        """The path of tokenizer.json."""
        return self.path(TOKENIZER)

    def check(self, *names: str) -> None:
        """Compares files with the SHA-256 in the manifest, if it has one. Raises IntegrityError if they differ."""
        for name in names:
            if name in self.files:
                path = self.path(name)
                try:
                    found = digest_of_file(path)
                except OSError as error:
                    raise _unreadable(path, error) from error
                _compare(path, "SHA-256", found, self.files[name].sha256)

    def fingerprint(self) -> str:
        """SHA-256, as hex, of the manifest, which holds those of all files; without one, over the files."""
        manifest = self.path(MANIFEST)
        if manifest.exists():
            return digest_of_file(manifest)
        graphs = {
            self.path(role.graph): (role.pooling, role.activation)
            for role in self.roles.values()
            if isinstance(role, GraphRole)
        }
        with_external_data = {path for graph in graphs for path in graph.parent.glob(f"{graph.name}*")}
        lines = [f"{path.name} {digest_of_file(path)}\n" for path in sorted({self.tokenizer, *with_external_data})]
        return digest_of_text("".join([repr(sorted(graphs.values())), *lines]))


def choose_graph(names: Collection[str]) -> str | None:
    """The graph among the file names of a folder or repository: model.onnx, onnx/model.onnx, or onnx/model*.onnx.

    >>> choose_graph(["README.md", "onnx/model_quantized.onnx", "onnx/model.onnx"])
    'onnx/model.onnx'
    """
    variants = sorted(name for name in names if PurePosixPath(name).match("onnx/model*.onnx"))
    return next((name for name in ("model.onnx", "onnx/model.onnx", *variants) if name in names), None)


def _open_bundle(folder: Path) -> Bundle:
    path = folder / MANIFEST
    manifest = Manifest.read(path)
    if TOKENIZER not in manifest.files:
        files = sorted(manifest.files)
        raise ModelFilesError(
            f"{path} does not list {TOKENIZER}; its files are {files}. {_REPAIR}",
            path=path,
            expected=TOKENIZER,
            found=files,
        )
    for name, record in manifest.files.items():
        _check_size(folder / name, record)
    return Bundle(
        folder=folder,
        name=manifest.name,
        license=manifest.license,
        roles=manifest.roles,
        files=manifest.files,
        vocabulary=manifest.vocabulary,
    )


def _check_size(path: Path, record: FileRecord) -> None:
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    _compare(path, "size", size, record.size)


def _unreadable(path: Path, error: Exception) -> ModelFilesError:
    return ModelFilesError(f"{path}, which {MANIFEST} names, cannot be read: {error}. {_REPAIR}", path=path)


def _compare(path: Path, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise IntegrityError(
            f"{path} has {what} {found}, but {MANIFEST} says {expected}. {_REPAIR}",
            path=path,
            expected=expected,
            found=found,
        )


def _open_bare(folder: Path) -> Bundle:
    """Opens a folder without a manifest, as optimum writes it, as a symmetric SPLADE model."""
    from spladerunner.model.sentence_transformers import MaskedLanguageModel, read_layout  # bundles start without it

    name = choose_graph([path.relative_to(folder).as_posix() for path in folder.rglob("*.onnx")])
    if name is None or not (folder / TOKENIZER).is_file():
        raise ModelFilesError(
            f"{folder} has no model: neither {MANIFEST}, nor {TOKENIZER} with model.onnx or onnx/model*.onnx. "
            "Make a bundle of a checkpoint: spladerunner export --doc CHECKPOINT -o FOLDER",
            path=folder,
        )
    layout = read_layout(folder)
    model = layout.doc if layout else MaskedLanguageModel(folder)
    if not isinstance(model, MaskedLanguageModel) or (layout and layout.query != model):
        raise ModelFilesError(
            f"{folder} has different models for documents and queries, but one graph. "
            f"Make a bundle of it: spladerunner export --doc {folder} -o FOLDER",
            path=folder,
        )
    max_length = model.max_length or _bare_max_length(folder)
    role = GraphRole(name, max_length, model.pooling, model.activation)
    debug(__name__, "%s has no manifest: %s serves both roles, with %s", folder, name, role)
    return Bundle(folder, folder.resolve().name, "unknown", {"doc": role, "query": role})


def _bare_max_length(folder: Path) -> int:
    """The length that the configurations of tokenizer and model allow; 512, as of BERT, by default."""
    lengths = [512]
    for name, key in (("tokenizer_config.json", "model_max_length"), ("config.json", "max_position_embeddings")):
        path = folder / name
        if path.is_file():
            try:
                value = json.loads(path.read_text(encoding="utf-8")).get(key)
            except (OSError, ValueError, RecursionError, AttributeError) as error:
                raise ModelFilesError(f"{path} cannot be read: {error}. {_REPAIR}", path=path) from error
            if isinstance(value, int):
                lengths.append(value)
    return min(lengths)
