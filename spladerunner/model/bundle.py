"""A bundle: the folder of a model. Export writes it; this module opens it, and reads and checks its files."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from spladerunner.errors import IntegrityError, ModelFilesError
from spladerunner.model.content import is_there, open_regular, read_content
from spladerunner.model.graph import Content, Graph, read_graph, read_or_map
from spladerunner.model.integrity import digest, digest_of_text
from spladerunner.model.json_file import LIMIT, REPAIR, read_file
from spladerunner.model.manifest import (
    MANIFEST,
    FileRecord,
    GraphRole,
    Manifest,
    Role,
    RoleName,
    TokenWeightsRole,
    VocabularyRecord,
)

if TYPE_CHECKING:  # numpy.typing is slow to import
    from numpy.typing import NDArray

    from spladerunner.model.bare_folder import Interpretation

TOKENIZER = "tokenizer.json"

GRAPHS = ("model.onnx", "onnx/model.onnx")
"""The graph of a folder without a manifest is the first of these, or else of onnx/model*.onnx."""

TOKENIZER_LIMIT = 128 << 20
"""Bytes of tokenizer.json at most. That of XLM-RoBERTa, with 250,002 tokens, has 17 million."""


class Bundle(NamedTuple):
    """A model on disk.

    files, vocabulary, weight_type: as the manifest records them; empty and None for a folder without a manifest.
    digest: SHA-256 of the manifest that was read; None without one.
    """

    folder: Path
    name: str
    license: str
    roles: Mapping[RoleName, Role]
    files: Mapping[str, FileRecord] = MappingProxyType({})
    vocabulary: VocabularyRecord | None = None
    digest: str | None = None
    weight_type: str | None = None

    @classmethod
    def open(cls, folder: Path, interpretation: Interpretation | None = None) -> Bundle:
        """Opens a folder with a manifest, or with tokenizer.json and model.onnx or onnx/model*.onnx.

        interpretation: what the files of a folder without a manifest leave open.
        Raises ModelFilesError if the folder has neither, its files are not valid or leave something open, or the
        interpretation contradicts them; and IntegrityError if the size of a file differs from the manifest.
        """
        folder = folder.absolute()  # files are opened later, maybe from another working directory
        if not folder.is_dir():
            raise ModelFilesError(
                f"{folder} is not a folder. Give the folder of a bundle, or a model's name.", path=folder
            )
        try:
            if not is_there(folder / MANIFEST):
                from spladerunner.model.bare_folder import open_bare_folder  # bundles start without it

                return open_bare_folder(folder, interpretation)
            bundle = _open_bundle(folder)
        except OSError as error:
            raise ModelFilesError(f"{folder} cannot be read: {error}.", path=folder) from error
        if interpretation is not None:
            interpretation.check(folder / MANIFEST, bundle.roles["doc"])
        return bundle

    def path(self, name: str) -> Path:
        """The path of a file that a role or the manifest names."""
        return self.folder / name

    @property
    def tokenizer(self) -> Path:
        """The path of tokenizer.json."""
        return self.path(TOKENIZER)

    def read_tokenizer(self) -> bytes:
        """The content of tokenizer.json, checked. Raises IntegrityError or ModelFilesError."""
        try:
            content = read_content(self.tokenizer, TOKENIZER_LIMIT)
        except (OSError, ValueError) as error:
            raise self._unreadable(TOKENIZER, error) from error
        self.check({TOKENIZER: content})
        return content

    def read_graph(self, role: GraphRole) -> Graph:
        """The graph of a role, not yet checked. Raises ModelFilesError if it is none, or names files elsewhere."""
        return read_graph(self.folder, role.graph, self.read)

    def read(self, name: str) -> Content:
        """The content of a file, in memory or mapped, not yet checked.

        Raises ModelFilesError if it cannot be read, or the folder has a manifest that does not list it.
        """
        if self.files and name not in self.files:
            raise ModelFilesError(
                f"{self.path(MANIFEST)} does not list {name}, which a graph reads. {REPAIR}",
                path=self.path(MANIFEST),
                expected=name,
                found=sorted(self.files),
            )
        try:
            return read_or_map(self.path(name))
        except (OSError, ValueError) as error:
            raise self._unreadable(name, error) from error

    def read_token_weights(self, role: TokenWeightsRole, positions: Mapping[str, int]) -> NDArray[np.float32]:
        """The weights of a role, (V,) float32, checked. positions: of the tokenizer's tokens.

        Raises IntegrityError or ModelFilesError.
        """
        from spladerunner.model.token_weights import ONES, read_token_weights  # graphs start without it

        size = max(positions.values(), default=-1) + 1
        if role.token_weights == ONES:
            return np.ones(size, dtype=np.float32)
        path = self.path(role.token_weights)
        try:
            content = read_content(path, LIMIT)
        except (OSError, ValueError) as error:
            raise self._unreadable(role.token_weights, error) from error
        self.check({role.token_weights: content})
        return read_token_weights(path, content, positions, size)

    def read_entries(self, role: GraphRole, size: int) -> NDArray[np.int32] | None:
        """The vocabulary entries that a role's graph weighs, (K,) int32, checked; None for all.

        size: of the vocabulary. Raises IntegrityError or ModelFilesError.
        """
        if role.entries is None:
            return None
        from spladerunner.model.entries import read_entries  # most bundles start without it

        path = self.path(role.entries)
        try:
            content = read_content(path, LIMIT)
        except (OSError, ValueError) as error:
            raise self._unreadable(role.entries, error) from error
        self.check({role.entries: content})
        return read_entries(path, content, size)

    def check(self, contents: Mapping[str, Content]) -> None:
        """Compares the contents of files with the manifest, if it has one. Raises IntegrityError if they differ."""
        for name, content in contents.items():
            if name in self.files:
                _compare(self.path(name), "size", len(content), self.files[name].size)
                _compare(self.path(name), "SHA-256", digest(content), self.files[name].sha256)

    def _unreadable(self, name: str, error: Exception) -> ModelFilesError:
        return _unreadable(self.path(name), error, f", which {MANIFEST} names," if name in self.files else "")

    def fingerprint(self) -> str:
        """SHA-256, as hex, of the manifest, which holds those of all files; without one, over the files."""
        if self.digest is not None:
            return self.digest
        from spladerunner.model.token_weights import ONES

        names = {TOKENIZER}
        for role in self.roles.values():
            names.update(self.read_graph(role).files if isinstance(role, GraphRole) else role.files)
        lines = [f"{name} {digest(self.read(name))}\n" for name in sorted(names - {ONES})]
        return digest_of_text("".join([repr(sorted(self.roles.items())), *lines]))


def choose_graph(names: Collection[str]) -> str | None:
    """The graph among the file names of a folder or repository: model.onnx, onnx/model.onnx, or onnx/model*.onnx.

    >>> choose_graph(["README.md", "onnx/model_quantized.onnx", "onnx/model.onnx"])
    'onnx/model.onnx'
    >>> choose_graph(["checkpoint-500/onnx/model.onnx"])
    """
    variants = sorted(name for name in names if name.count("/") == 1 and fnmatchcase(name, "onnx/model*.onnx"))
    return next((name for name in (*GRAPHS, *variants) if name in names), None)


def _open_bundle(folder: Path) -> Bundle:
    path = folder / MANIFEST
    content = read_file(path)
    manifest = Manifest.decode(content, path)
    if TOKENIZER not in manifest.files:
        files = sorted(manifest.files)
        raise ModelFilesError(
            f"{path} does not list {TOKENIZER}; its files are {files}. {REPAIR}",
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
        digest=digest(content),
        weight_type=manifest.weight_type,
    )


def _check_size(path: Path, record: FileRecord) -> None:
    try:
        descriptor = open_regular(path)
        size = os.fstat(descriptor).st_size
        os.close(descriptor)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error, f", which {MANIFEST} names,") from error
    _compare(path, "size", size, record.size)


def _unreadable(path: Path, error: Exception, whose: str) -> ModelFilesError:
    return ModelFilesError(f"{path}{whose} cannot be read: {error}. {REPAIR}", path=path)


def _compare(path: Path, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise IntegrityError(
            f"{path} has {what} {found}, but {MANIFEST} says {expected}. {REPAIR}",
            path=path,
            expected=expected,
            found=found,
        )
