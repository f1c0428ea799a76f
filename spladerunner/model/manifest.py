"""The manifest of a bundle as a type: reads, checks and writes manifest.json.

manifest.schema.json describes the same file for other programs. Unknown fields are ignored, so that a later version may
add some. Schema 1, written by spladerunner 0.2, is read too.
"""

# Annotations are not postponed here: fields then hold their types, which would take milliseconds to evaluate from text.
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from spladerunner.errors import ModelFilesError
from spladerunner.inference.pooling import ACTIVATIONS, HEADS
from spladerunner.model.content import is_inside
from spladerunner.model.integrity import digest_of_file
from spladerunner.model.json_file import REPAIR, InvalidFieldError, decode_json, parse_fields, read_file

SCHEMA = 2
MANIFEST = "manifest.json"

RoleName = Literal["doc", "query"]
ROLES: tuple[RoleName, ...] = get_args(RoleName)

QUERIES = ("model", "idf", "ones")
"""Sources of query weights without a manifest: the document model, the weights in idf.json, or weight 1 each token."""


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256, as hex, of a file in the bundle."""

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "FileRecord":
        """Measures a file. Raises OSError if it cannot be read."""
        return cls(path.stat().st_size, digest_of_file(path))


@dataclass(frozen=True)
class CheckpointRecord:
    """Repository or folder of the checkpoint that a role was made from, and its commit."""

    name: str
    revision: str | None = None


@dataclass(frozen=True)
class GraphRole:
    """A role served by a graph.

    graph: its file name. max_length: tokens read of a text, special ones included. pooling, activation: names in
    POOLINGS and ACTIVATIONS. positions: the most tokens that the model accepts, None if it sets no limit.
    external_data: the files of weights that the graph reads. quantization: of its weights, in words. prompt: the
    model reads it before every text. head: a name in HEADS, what the graph gives at each position. entries: a JSON file
    of the vocabulary entries that the graph weighs, ascending; None for all of them. lexical: a vector keeps only the
    tokens of its text, those of the prompt included.
    """

    graph: str
    max_length: int
    pooling: str
    activation: str
    positions: int | None = None
    external_data: tuple[str, ...] = ()
    quantization: str | None = None
    checkpoint: CheckpointRecord | None = None
    prompt: str | None = None
    head: str = "masked_lm"
    entries: str | None = None
    lexical: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """The files that serve the role."""
        return self.graph, *self.external_data, *([self.entries] if self.entries else [])


@dataclass(frozen=True)
class TokenWeightsRole:
    """A role served without a model.

    token_weights: a NumPy file of (V,) float32, a weight for each token. prompt: as in GraphRole.
    """

    token_weights: str
    max_length: int
    checkpoint: CheckpointRecord | None = None
    prompt: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The file that serves the role."""
        return (self.token_weights,)


Role = GraphRole | TokenWeightsRole


@dataclass(frozen=True)
class VocabularyRecord:
    """Number of tokens, and Vocabulary.sha256."""

    size: int
    sha256: str


_Manifest = TypeVar("_Manifest", bound="Manifest")


@dataclass(frozen=True)
class Manifest:
    """Content of manifest.json that a run needs; ExportManifest in provenance.py adds how the bundle was made.

    license: of the weights, as an SPDX identifier. weight_type: "int8", "float16" or "float32". vocabulary: of
    tokenizer.json. roles: both of them. files: every other file of the bundle, by name.
    """

    name: str
    license: str
    weight_type: str
    vocabulary: VocabularyRecord
    roles: Mapping[RoleName, Role]
    files: Mapping[str, FileRecord]

    @classmethod
    def read(cls: type[_Manifest], path: Path, origin: str | PathLike[str] | None = None) -> _Manifest:
        """Reads a manifest of schema 1 or 2. Raises ModelFilesError with the field that is missing or invalid.

        origin: named in errors instead of path.
        """
        origin = Path(origin or path)
        return cls.decode(read_file(path, origin), origin)

    @classmethod
    def decode(cls: type[_Manifest], content: bytes, origin: Path) -> _Manifest:
        """A manifest that was read. Raises ModelFilesError, which names origin."""
        try:
            return cls.parse(decode_json(content, origin))
        except InvalidFieldError as error:
            raise ModelFilesError(
                f"{origin} {error}", path=origin, expected=error.expected, found=error.found
            ) from None

    @classmethod
    def parse(cls: type[_Manifest], content: object) -> _Manifest:
        """Checks the decoded JSON of a manifest of schema 1 or 2. Raises ValueError with the invalid field."""
        schema = content.get("schema") if isinstance(content, dict) else content
        if not isinstance(content, dict) or type(schema) is not int or schema not in (1, SCHEMA):
            advice = (
                f"this version of spladerunner reads schemas 1 to {SCHEMA}. Upgrade it, or export the bundle again."
            )
            raise InvalidFieldError(f"has schema {schema!r}; {advice}", expected=SCHEMA, found=schema)
        manifest: _Manifest = parse_fields(cls, _from_schema_1(content) if schema == 1 else content)
        _check_names(manifest)
        return manifest

    def write(self, path: Path) -> None:
        """Writes the manifest atomically, in the current schema."""
        from spladerunner.atomic_file import write_atomically  # a run only reads

        content = {"schema": SCHEMA, **_without_none(asdict(self))}
        write_atomically(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _check_names(manifest: Manifest) -> None:
    """Raises InvalidFieldError if the manifest names something that does not exist, or a file outside its folder."""
    for name in manifest.files:
        if not name or not is_inside(name):
            raise InvalidFieldError(
                f"names the file {name!r}, which is not inside its folder. Do not use it.", expected=None, found=name
            )
    for role in ROLES:
        if role not in manifest.roles:
            raise InvalidFieldError(f"has no roles.{role}. {REPAIR}", expected=f"roles.{role}", found=None)
    for served_by in manifest.roles.values():
        for name in served_by.files:
            _check_known("file", name, manifest.files, REPAIR)
        if isinstance(served_by, GraphRole):
            _check_known("head", served_by.head, HEADS, "Upgrade spladerunner.")
            _check_known("pooling", served_by.pooling, HEADS[served_by.head], "Upgrade spladerunner.")
            _check_known("activation", served_by.activation, ACTIVATIONS, "Upgrade spladerunner.")
            if served_by.head == "token" and served_by.entries:
                raise InvalidFieldError(
                    f"names the entries {served_by.entries!r} of a token head, which has no decoder. {REPAIR}",
                    expected=None,
                    found=served_by.entries,
                )


def _check_known(what: str, name: str, known: Collection[str], advice: str) -> None:
    if name not in known:
        raise InvalidFieldError(
            f"names the {what} {name!r}; known are {sorted(known)}. {advice}", expected=sorted(known), found=name
        )


def _from_schema_1(content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of schema 1 that a run needs, under the names of schema 2.

    Values of the wrong type are left to the checks. How the bundle was made is left out: schema 1 never checked it.
    """
    provenance = ("verification", "made_by")
    upgraded = {
        "license" if key == "licence" else key: value for key, value in content.items() if key not in provenance
    }
    if isinstance(content.get("roles"), dict):
        upgraded["roles"] = {name: _role_from_schema_1(role) for name, role in content["roles"].items()}
    return upgraded


def _role_from_schema_1(role: object) -> object:
    if not isinstance(role, dict):
        return role
    names = {"table": "token_weights", "weights": "external_data"}
    upgraded = {names.get(key, key): value for key, value in role.items() if key not in ("checkpoint", "revision")}
    if "checkpoint" in role:
        revision = {"revision": role["revision"]} if "revision" in role else {}
        upgraded["checkpoint"] = {"name": role["checkpoint"], **revision}
    return upgraded


def _without_none(value: Any) -> Any:
    """The value without fields that are None, at any depth."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value
