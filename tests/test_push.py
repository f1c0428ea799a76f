"""Uploading bundles: huggingface_hub's real client, in processes of its own, against a small Hub on loopback."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from huggingface_hub import errors

from spladerunner import UploadError
from spladerunner.model.manifest import MANIFEST
from spladerunner.model.push import _explained as explained
from tests.hub_server import TOKEN, Hub, Repository
from tests.small_model import change_manifest, records
from tests.test_hub import command

pytestmark = pytest.mark.slow  # each test starts processes

NAME = "owner/bundle"
CARD = """\
---
license: apache-2.0
library_name: spladerunner
tags:
- splade
pipeline_tag: feature-extraction
---
# A card
"""


@pytest.fixture
def published(bundle: Path) -> Path:
    """A bundle with a card, and a file beside it that its manifest does not name."""
    (bundle / "README.md").write_text(CARD)
    names = ("README.md", "tokenizer.json", "doc.onnx", "query.onnx")
    change_manifest(bundle, files=records(bundle, *names))
    (bundle / "notes.txt").write_text("not of the bundle")
    return bundle


def push(hub: Hub, tmp_path: Path, *arguments: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    return command(hub, tmp_path, "push", *arguments, HF_TOKEN=token, HF_HUB_DISABLE_XET="1")


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "notes.txt"}


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1 and done.stdout == ""
    line = done.stderr.splitlines()[-1]
    assert line.startswith("spladerunner: ")
    return line


@pytest.mark.parametrize(("options", "access"), [((), "private"), (("--public",), "public")])
def test_a_bundle_arrives_whole_in_a_new_repository_and_loads_from_there(
    hub: Hub, published: Path, tmp_path: Path, options: tuple[str, ...], access: str
) -> None:
    done = push(hub, tmp_path, str(published), NAME, *options)
    assert done.returncode == 0, done.stderr
    repository = hub.repositories[NAME]
    assert done.stdout.strip() == f"{hub.endpoint}/{NAME}/commit/{repository.commit}"
    assert repository.access == access
    assert {name: content for name, content in repository.files.items() if name != ".gitattributes"} == files_of(
        published
    )
    assert hub.cards == [CARD] and hub.uploaded == {}
    loaded = command(hub, tmp_path, "expand", "--model", NAME, "the cat", HF_TOKEN=TOKEN)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout == command(hub, tmp_path, "expand", "--model", str(published), "the cat").stdout


def test_what_is_there_is_replaced_only_on_request(hub: Hub, published: Path, tmp_path: Path) -> None:
    hub.repositories[NAME] = Repository({"README.md": b"theirs", "old.onnx": b"old", ".gitattributes": b""}, "private")
    before = dict(hub.repositories[NAME].files)
    assert "holds 2 files already, such as README.md. --overwrite" in refusal(push(hub, tmp_path, str(published), NAME))
    assert hub.repositories[NAME].files == before
    assert push(hub, tmp_path, str(published), NAME, "--overwrite").returncode == 0
    assert hub.repositories[NAME].files == {".gitattributes": b"", **files_of(published)}


def test_nothing_private_becomes_public_by_accident(hub: Hub, published: Path, tmp_path: Path) -> None:
    hub.repositories[NAME] = Repository({}, "public")
    assert f"{NAME} on the Hub is public: push with --public" in refusal(push(hub, tmp_path, str(published), NAME))
    hub.repositories[NAME] = Repository({}, "private")
    assert f"{NAME} on the Hub is private: push without" in refusal(
        push(hub, tmp_path, str(published), NAME, "--public")
    )
    assert hub.repositories[NAME].files == {}


def test_a_change_by_somebody_else_meanwhile_is_not_overwritten(hub: Hub, published: Path, tmp_path: Path) -> None:
    hub.repositories[NAME] = repository = Repository({}, "private")

    def change() -> None:
        repository.files["theirs.txt"] = b"new"
        repository.move()

    hub.before_commit = change
    assert "Somebody else changed the repository" in refusal(push(hub, tmp_path, str(published), NAME, "--overwrite"))
    assert repository.files == {"theirs.txt": b"new"}


def test_without_permission_the_error_says_how_to_log_in(hub: Hub, published: Path, tmp_path: Path) -> None:
    assert "hf auth login" in refusal(push(hub, tmp_path, str(published), NAME, token="hf_another"))
    assert hub.repositories == {}


def test_only_an_intact_bundle_is_uploaded(hub: Hub, published: Path, tmp_path: Path) -> None:
    graph = published / "doc.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    assert "doc.onnx differs from manifest.json" in refusal(push(hub, tmp_path, str(published), NAME))
    graph.unlink()
    assert "doc.onnx, which manifest.json names, cannot be read" in refusal(push(hub, tmp_path, str(published), NAME))
    (published / MANIFEST).unlink()
    assert "is not a bundle" in refusal(push(hub, tmp_path, str(published), NAME))
    assert hub.requests == []


def test_a_name_that_cannot_be_one_and_a_hub_out_of_reach_are_errors(hub: Hub, published: Path, tmp_path: Path) -> None:
    assert "'bundle' is not the name of a repository" in refusal(push(hub, tmp_path, str(published), "bundle"))
    assert hub.requests == []
    hub.endpoint = "http://127.0.0.1:9"
    assert f"{NAME} could not be written on the Hub" in refusal(push(hub, tmp_path, str(published), NAME))


def test_offline_mode_is_told_with_what_to_do() -> None:
    with pytest.raises(UploadError, match=r"HF_HUB_OFFLINE forbids .* to push") as told, explained("owner/model"):
        raise errors.OfflineModeIsEnabled
    assert told.value.name == "owner/model"
