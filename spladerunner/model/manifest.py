"""The manifest of a bundle as a type: reads, checks and writes manifest.json.

manifest.schema.json describes the same file for other programs. Fields that neither knows are ignored, so that a later
version may add some. Schema 1, of spladerunner 0.2, is read too.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar, get_args

from spladerunner.atomic_file import write_atomically
from spladerunner.errors import ModelFilesError
from spladerunner.inference.pooling import ACTIVATIONS, POOLINGS
from spladerunner.model.integrity import digest_of_file

SCHEMA = 2
MANIFEST = "manifest.json"

RoleName = Literal["doc", "query"]
ROLES: tuple[RoleName, ...] = get_args(RoleName)

_REPAIR = "Fetch or export the bundle again."
_T = TypeVar("_T")


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256, as hex, of a file in the bundle."""

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileRecord:
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

    graph: its file name. max_length: tokens read of a text, special ones included. positions: the most tokens that the
    model accepts, None if it sets no limit. external_data: the files of weights that the graph reads.
    """

    graph: str
    max_length: int = field(compare=False)  # two roles may read different lengths with one graph
    pooling: str = "max"
    activation: str = "log1p_relu"
    positions: int | None = field(default=None, compare=False)
    external_data: tuple[str, ...] = ()
    quantization: str | None = field(default=None, compare=False)
    checkpoint: CheckpointRecord | None = field(default=None, compare=False)


@dataclass(frozen=True)
class TokenWeightsRole:
    """A role served without a model: token_weights is a NumPy file of (V,) float32, a weight for each token."""

    token_weights: str
    max_length: int = field(compare=False)
    checkpoint: CheckpointRecord | None = field(default=None, compare=False)


Role = GraphRole | TokenWeightsRole


@dataclass(frozen=True)
class VocabularyRecord:
    """Number of tokens, and Vocabulary.sha256."""

    size: int
    sha256: str


@dataclass(frozen=True)
class GraphAgreement:
    """Agreement of a graph with its checkpoint, measured at export over `texts` texts.

    fp32_largest_difference: of a weight by the graph as converted. The other figures are of the bundle's graph against
    the checkpoint. fp32_ms, ms: milliseconds a text on one thread. fp32_bytes, bytes: sizes with external data.
    """

    texts: int
    fp32_largest_difference: float
    worst_cosine: float
    worst_text: str
    mean_cosine: float
    mean_shared_top20: float
    mean_weights: float
    fp32_ms: float
    ms: float
    fp32_bytes: int
    bytes: int


@dataclass(frozen=True)
class TokenWeightsAgreement:
    """Agreement of token weights with their source, measured at export over `texts` texts."""

    texts: int
    largest_difference: float
    mean_weights: float
    ms: float
    bytes: int


Agreement = GraphAgreement | TokenWeightsAgreement


@dataclass(frozen=True)
class Verification:
    """Measurements at export. A role that is served by the other's graph has none of its own."""

    machine: str
    roles: Mapping[RoleName, Agreement]
    shortfalls: tuple[str, ...] = ()


@dataclass(frozen=True)
class MadeBy:
    """The command that made the bundle, and the versions of the packages that it used."""

    command: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Manifest:
    """Content of manifest.json.

    license: of the weights, as an SPDX identifier. weight_type: "int8", "float16" or "float32". files: every other file
    of the bundle, by name.
    """

    name: str
    license: str
    weight_type: str
    vocabulary: VocabularyRecord
    roles: Mapping[RoleName, Role]
    files: Mapping[str, FileRecord]
    verification: Verification | None = None
    made_by: MadeBy | None = None

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Reads a manifest of schema 1 or 2. Raises ModelFilesError with the field that is missing or wrong."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ModelFilesError(f"{path} cannot be read: {error}. {_REPAIR}") from error
        return cls.parse(content, path)

    @classmethod
    def parse(cls, content: object, path: Path) -> Manifest:
        """Checks the decoded JSON of a manifest; path is for messages. Raises ModelFilesError."""
        schema = content.get("schema") if isinstance(content, dict) else content
        if type(schema) is not int or schema not in (1, SCHEMA):
            raise ModelFilesError(
                f"{path} has the schema {schema!r}; this version of spladerunner reads schemas 1 to {SCHEMA}. "
                "Upgrade spladerunner, or export the bundle again."
            )
        assert isinstance(content, dict)
        top = _Object(path, _from_schema_1(content) if schema == 1 else content)
        files = {_inside(path, name): _file(top.child("files").child(name)) for name in top.get("files", dict)}
        roles = {name: _role(top.child("roles").child(name), files) for name in ROLES}
        vocabulary = top.child("vocabulary")
        return cls(
            name=top.get("name", str),
            license=top.get("license", str),
            weight_type=top.get("weight_type", str),
            vocabulary=VocabularyRecord(vocabulary.get("size", int), vocabulary.get("sha256", str)),
            roles=roles,
            files=files,
            verification=_verification(top.child("verification")) if "verification" in top else None,
            made_by=_made_by(top.child("made_by")) if "made_by" in top else None,
        )

    def write(self, path: Path) -> None:
        """Writes the manifest atomically, in the current schema."""
        content = {"schema": SCHEMA, **_without_none(asdict(self))}
        write_atomically(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


class _Object:
    """A JSON object of the manifest, with checked access to its fields."""

    def __init__(self, path: Path, fields: Mapping[str, Any]) -> None:
        self.path = path
        self._fields = fields

    def __contains__(self, key: str) -> bool:
        return key in self._fields

    def get(self, key: str, kind: type[_T]) -> _T:
        value = self._fields.get(key)
        if kind is float and isinstance(value, int):
            value = float(value) if not isinstance(value, bool) else value
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ModelFilesError(
                f"{self.path} has {key} = {value!r} where a {kind.__name__} belongs. {_REPAIR}",
            )
        return value

    def find(self, key: str, kind: type[_T]) -> _T | None:
        return self.get(key, kind) if key in self._fields else None

    def one_of(self, key: str, known: Collection[str]) -> str:
        value = self.get(key, str)
        if value not in known:
            raise ModelFilesError(
                f"{self.path} has the {key} {value!r}; this version of spladerunner knows {sorted(known)}. "
                "Upgrade spladerunner."
            )
        return value

    def child(self, key: str) -> _Object:
        return _Object(self.path, self.get(key, dict))

    def texts(self, key: str) -> tuple[str, ...]:
        values = self.get(key, list) if key in self._fields else []
        return tuple(_Object(self.path, {key: value}).get(key, str) for value in values)


def _inside(path: Path, name: str) -> str:
    """The name, if it is inside the bundle's folder: a lexical check, as files in the Hub's cache are links."""
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name:
        raise ModelFilesError(f"{path} names the file {name!r}, which is not inside its folder. Do not use it.")
    return name


def _file(record: _Object) -> FileRecord:
    return FileRecord(record.get("size", int), record.get("sha256", str))


def _role(role: _Object, files: Collection[str]) -> Role:
    def listed(name: str) -> str:
        if name not in files:
            raise ModelFilesError(f"{role.path} names {name}, but its files are {sorted(files)}. {_REPAIR}")
        return name

    max_length = role.get("max_length", int)
    checkpoint = _checkpoint(role.child("checkpoint")) if "checkpoint" in role else None
    if "token_weights" in role:
        return TokenWeightsRole(listed(role.get("token_weights", str)), max_length, checkpoint)
    return GraphRole(
        graph=listed(role.get("graph", str)),
        max_length=max_length,
        pooling=role.one_of("pooling", POOLINGS),
        activation=role.one_of("activation", ACTIVATIONS),
        positions=role.find("positions", int),
        external_data=tuple(map(listed, role.texts("external_data"))),
        quantization=role.find("quantization", str),
        checkpoint=checkpoint,
    )


def _checkpoint(record: _Object) -> CheckpointRecord:
    return CheckpointRecord(record.get("name", str), record.find("revision", str))


def _verification(record: _Object) -> Verification:
    roles = record.child("roles")
    return Verification(
        machine=record.get("machine", str),
        roles={name: _agreement(roles.child(name)) for name in ROLES if name in roles},
        shortfalls=record.texts("shortfalls"),
    )


def _agreement(record: _Object) -> Agreement:
    if "worst_cosine" not in record:
        return TokenWeightsAgreement(
            texts=record.get("texts", int),
            largest_difference=record.get("largest_difference", float),
            mean_weights=record.get("mean_weights", float),
            ms=record.get("ms", float),
            bytes=record.get("bytes", int),
        )
    return GraphAgreement(
        texts=record.get("texts", int),
        fp32_largest_difference=record.get("fp32_largest_difference", float),
        worst_cosine=record.get("worst_cosine", float),
        worst_text=record.get("worst_text", str),
        mean_cosine=record.get("mean_cosine", float),
        mean_shared_top20=record.get("mean_shared_top20", float),
        mean_weights=record.get("mean_weights", float),
        fp32_ms=record.get("fp32_ms", float),
        ms=record.get("ms", float),
        fp32_bytes=record.get("fp32_bytes", int),
        bytes=record.get("bytes", int),
    )


def _made_by(record: _Object) -> MadeBy:
    versions = record.child("versions")
    return MadeBy(record.get("command", str), {name: versions.get(name, str) for name in record.get("versions", dict)})


def _from_schema_1(content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of schema 1 under the names of schema 2; values of the wrong type are left for the checks."""
    upgraded = {key: value for key, value in content.items() if key != "licence"}
    if "licence" in content:
        upgraded["license"] = content["licence"]
    if isinstance(content.get("roles"), dict):
        upgraded["roles"] = {name: _role_from_schema_1(role) for name, role in content["roles"].items()}
    verification = content.get("verification")
    if isinstance(verification, dict):
        upgraded["verification"] = {
            **{key: value for key, value in verification.items() if key not in ROLES},
            "roles": {name: verification[name] for name in ROLES if name in verification},
        }
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
