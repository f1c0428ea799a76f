"""manifest.json as dataclasses and as JSON Schema: both describe the same file, and reading inverts writing."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spladerunner import Expander, ModelFilesError
from spladerunner.inference.pooling import ACTIVATIONS, HEADS, POOLINGS
from spladerunner.model import manifest as module
from spladerunner.model import provenance
from spladerunner.model.manifest import (
    MANIFEST,
    CheckpointRecord,
    FileRecord,
    GraphRole,
    Manifest,
    Role,
    TokenWeightsRole,
    VocabularyRecord,
)
from spladerunner.model.provenance import CopyAgreement, ExportManifest, GraphAgreement, MadeBy, Verification
from spladerunner.models import embedded_folder
from tests.small_model import write_bundle

SCHEMA_1 = Path(__file__).parent / "data" / "manifest-schema-1.json"
SCHEMA = json.loads(Path(module.__file__).with_name("manifest.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

DATACLASSES = {
    name: value
    for name, value in {**vars(module), **vars(provenance)}.items()
    if is_dataclass(value) and isinstance(value, type) and value is not Manifest  # ExportManifest has all its fields
}

numbers = st.floats(allow_nan=False, allow_infinity=False)
names = st.from_regex(r"[a-z]{1,8}(/[a-z]{1,4})?(\.[a-z]{1,4})?", fullmatch=True)
file_records = st.builds(FileRecord, st.integers(), st.text())
checkpoints = st.none() | st.builds(CheckpointRecord, st.text(), st.none() | st.text())
of_type = {"int": st.integers(), "float": numbers, "str": st.text()}
agreements = st.builds(
    GraphAgreement,
    **{
        field.name: of_type[getattr(field.type, "__name__", "")]
        for field in fields(GraphAgreement)
        if field.name != "lost_weight"
    },
    lost_weight=st.none() | numbers,
) | st.builds(CopyAgreement, st.integers(), numbers, numbers, numbers, st.integers())
verifications = st.builds(
    Verification,
    st.text(),
    st.dictionaries(st.sampled_from(["doc", "query"]), agreements),
    st.lists(st.text()).map(tuple),
)
made_by = st.builds(MadeBy, st.text(), st.dictionaries(st.text(), st.text()))


@st.composite
def manifests(draw: st.DrawFn) -> ExportManifest:
    files = draw(st.dictionaries(names, file_records, min_size=1, max_size=4))
    listed = st.sampled_from(sorted(files))
    roles: st.SearchStrategy[Role] = st.builds(
        GraphRole,
        listed,
        st.integers(),
        st.sampled_from(POOLINGS),
        st.sampled_from(sorted(ACTIVATIONS)),
        st.none() | st.integers(),
        st.lists(listed, max_size=2).map(tuple),
        st.none() | st.text(),
        checkpoints,
        st.none() | st.text(),
        entries=st.none() | listed,
    )
    roles |= st.builds(
        GraphRole, listed, st.integers(), st.just("max"), st.just("relu"), head=st.sampled_from([*HEADS])
    )
    roles |= st.builds(TokenWeightsRole, listed, st.integers(), checkpoints)
    return ExportManifest(
        name=draw(st.text()),
        license=draw(st.text()),
        weight_type=draw(st.text()),
        vocabulary=draw(st.builds(VocabularyRecord, st.integers(), st.text())),
        roles={"doc": draw(roles), "query": draw(roles)},
        files=files,
        verification=draw(st.none() | verifications),
        made_by=draw(st.none() | made_by),
    )


def written(manifest: ExportManifest, folder: Path) -> Any:
    manifest.write(folder / MANIFEST)
    return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))


def places(content: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys of every value inside the content."""
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in entries:
        yield (*keys, key)
        yield from places(value, (*keys, key))


@pytest.mark.parametrize("name", sorted(DATACLASSES))
def test_a_dataclass_and_its_json_schema_have_the_same_fields(name: str) -> None:
    described = SCHEMA if name == "ExportManifest" else SCHEMA["$defs"][name]
    found = {field.name: field.default is MISSING for field in fields(DATACLASSES[name])}
    if name == "ExportManifest":
        found["schema"] = True
    assert set(described["properties"]) == set(found)
    assert set(described["required"]) == {field for field, required in found.items() if required}


def test_the_json_schema_describes_nothing_else() -> None:
    VALIDATOR.check_schema(SCHEMA)
    assert set(SCHEMA["$defs"]) - {"Role", "Agreement"} == set(DATACLASSES) - {"ExportManifest"}
    assert SCHEMA["$defs"]["GraphRole"]["properties"]["pooling"]["enum"] == list(POOLINGS)
    assert SCHEMA["$defs"]["GraphRole"]["properties"]["activation"]["enum"] == list(ACTIVATIONS)
    assert SCHEMA["$defs"]["GraphRole"]["properties"]["head"]["enum"] == list(HEADS)
    for keys in places(SCHEMA):
        if keys[-2:-1] == ("properties",):
            value: Any = SCHEMA
            for key in keys:
                value = value[key]
            assert "$ref" in value or value["description"], keys


@pytest.mark.slow
@given(manifest=manifests())
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_a_written_manifest_is_valid_and_reads_equal(tmp_path: Path, manifest: ExportManifest) -> None:
    VALIDATOR.validate(written(manifest, tmp_path))
    assert ExportManifest.read(tmp_path / MANIFEST) == manifest


def test_the_manifests_of_bundles_are_valid(tmp_path: Path) -> None:
    for folder in (write_bundle(tmp_path / "small"), embedded_folder()):
        VALIDATOR.validate(written(ExportManifest.read(folder / MANIFEST), tmp_path))


@pytest.mark.slow
@given(manifest=manifests(), data=st.data())
@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_both_reject_the_same_manifests(tmp_path: Path, manifest: ExportManifest, data: st.DataObject) -> None:
    """A field is deleted, added, or gets a value of another type."""
    content = copy.deepcopy(written(manifest, tmp_path))
    *keys, last = data.draw(st.sampled_from(sorted(places(content), key=repr)), label="place")
    parent = content
    for key in keys:
        parent = parent[key]
    change = data.draw(st.sampled_from(["delete", "add", "replace"]), label="change")
    if change == "delete" and keys != ["files"]:  # the JSON Schema does not say that the files of roles are listed
        del parent[last]
    elif change == "add" and isinstance(parent, dict) and keys not in (["files"], ["made_by", "versions"]):
        parent["unknown"] = 7
    else:
        other = st.sampled_from([None, True, 7, 1.5, "text", [], [7], {}, {"other": 7}])
        old = parent[last]
        parent[last] = data.draw(
            other.filter(lambda new: type(new) is not type(old) and ([*keys, last], new) != (["files"], {})),
            label="value",
        )
    try:
        ExportManifest.parse(content)
        accepted = True
    except ValueError:
        accepted = False
    assert VALIDATOR.is_valid(content) == accepted


def test_a_manifest_of_schema_1_reads_equal_to_its_schema_2_form(tmp_path: Path) -> None:
    old = json.loads(SCHEMA_1.read_text(encoding="utf-8"))
    manifest = ExportManifest.read(SCHEMA_1)
    assert manifest == ExportManifest.parse(written(manifest, tmp_path))
    assert manifest.license == old["licence"]
    assert manifest.roles["query"] == GraphRole(
        graph="query.onnx",
        max_length=256,
        pooling="max",
        activation="log1p_relu",
        positions=256,
        external_data=("query.onnx.data",),
        quantization="a scale for each column",
        checkpoint=CheckpointRecord("tiny-en/query"),
    )
    assert manifest.files == {name: FileRecord(**record) for name, record in old["files"].items()}
    assert manifest.verification is None and manifest.made_by is None  # never checked in schema 1


def test_token_weights_and_revisions_of_schema_1_are_read() -> None:
    content = json.loads(SCHEMA_1.read_text(encoding="utf-8"))
    content["roles"]["query"] = {"table": "query.onnx", "max_length": 8, "checkpoint": "owner/model", "revision": "abc"}
    read = ExportManifest.parse(content).roles["query"]
    assert read == TokenWeightsRole("query.onnx", 8, CheckpointRecord("owner/model", "abc"))


def edit(folder: Path, **changes: Any) -> Path:
    """Replaces top-level fields of a bundle's manifest.json, valid or not."""
    path = folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")
    return path


def role(**changes: Any) -> dict[str, Any]:
    return {"graph": "doc.onnx", "max_length": 8, "pooling": "max", "activation": "log1p_relu", **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 3}, "has schema 3; this version of spladerunner reads schemas 1 to 2"),
        ({"schema": None}, "has schema None"),
        ({"schema": True}, "has schema True"),
        ({"roles": {"doc": role(max_length=True)}}, r"has roles\.doc\.max_length = True, which is not an integer"),
        ({"roles": {"doc": role()}}, r"has no roles\.query"),
        ({"roles": []}, r"has roles = \[\], which is not an object"),
        ({"roles": {"doc": role(graph="other.onnx"), "query": role()}}, "names the file 'other.onnx'"),
        ({"roles": {"doc": role(external_data=["no"]), "query": role()}}, "names the file 'no'"),
        ({"roles": {"doc": role(external_data=[7])}}, r"has roles\.doc\.external_data\[0\] = 7"),
        ({"roles": {"doc": role(max_length="long")}}, r"has roles\.doc\.max_length = 'long', which is not an integer"),
        ({"roles": {"doc": role(activation="softmax"), "query": role()}}, "names the activation 'softmax'.*Upgrade"),
        ({"roles": {"doc": role(pooling="mean"), "query": role()}}, "names the pooling 'mean'.*Upgrade"),
        ({"roles": {"doc": role(head="lexical"), "query": role()}}, "names the head 'lexical'.*'token'.*Upgrade"),
        (
            {"roles": {"doc": role(head="token", entries="doc.onnx"), "query": role()}},
            "names the entries 'doc.onnx' of a",
        ),
        ({"roles": {"doc": role(head=7), "query": role()}}, r"has roles\.doc\.head = 7, which is not a string"),
        ({"roles": {"doc": role(head="token", pooling="sum"), "query": role()}}, "names the pooling 'sum'.*'max'"),
        ({"roles": {"doc": {"token_weights": "no.npy", "max_length": 8}, "query": role()}}, "names the file 'no.npy'"),
        ({"files": {}}, r"names the file 'doc\.onnx'; known are \[\]"),
        ({"files": None}, "has files = None, which is not an object"),
        ({"vocabulary": {}}, r"has no vocabulary\.size"),
        ({"name": 7}, "has name = 7, which is not a string"),
    ],
)
def test_an_invalid_field_is_named(bundle: Path, changes: dict[str, Any], message: str) -> None:
    path = edit(bundle, **changes)
    with pytest.raises(ModelFilesError, match=rf"manifest\.json {message}") as raised:
        Expander(bundle)
    assert raised.value.path == path


def test_an_error_holds_the_expected_and_the_found_value(bundle: Path) -> None:
    edit(bundle, name=7)
    with pytest.raises(ModelFilesError) as raised:
        Expander(bundle)
    assert (raised.value.expected, raised.value.found) == ("a string", 7)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_not_a_json_object_is_named(bundle: Path, content: bytes) -> None:
    (bundle / MANIFEST).write_bytes(content)
    with pytest.raises(ModelFilesError, match=re.escape(str(bundle / MANIFEST))):
        Expander(bundle)


@pytest.mark.parametrize("outside", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", "C:secret", ""])
def test_a_manifest_may_name_only_files_inside_its_folder(tmp_path: Path, outside: str) -> None:
    (tmp_path / "secret").write_text("secret")
    bundle = write_bundle(tmp_path / "bundle")
    files = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))["files"]
    edit(bundle, files={**files, outside: {"size": 6, "sha256": ""}})
    with pytest.raises(ModelFilesError, match=r"manifest\.json.*not inside its folder"):
        Expander(bundle)
