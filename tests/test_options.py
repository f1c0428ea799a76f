"""Options that commands share, and NAME@REVISION, which fetch and every command that runs a model take."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spladerunner import Expander
from spladerunner.cli.main import build_parser
from spladerunner.cli.options import open_expander, positive_count, positive_weight, provider
from tests.hub_server import Hub
from tests.small_collection import write_beir
from tests.small_model import write_bundle
from tests.test_cli import COMMAND, run

REPOSITORY = "owner/bundle"
ARGUMENTS = {
    "expand": ["the cat"],
    "explain": ["cat", "the cat"],
    "encode": ["corpus.tsv", "-o", "vectors.jsonl"],
    "eval": ["collection"],
    "check": ["made.jsonl"],
}
"""The commands that run a model, with their other arguments."""


def arguments_of(command: str) -> list[str]:
    return [command, *ARGUMENTS[command]]


@pytest.mark.parametrize("command", ARGUMENTS)
def test_every_command_that_runs_a_model_opens_it_with_the_same_options(bundle: Path, command: str) -> None:
    given = ["--model", str(bundle), "--threads", "3", "--max-length", "7", "--provider", "CPUExecutionProvider"]
    expander = open_expander(build_parser().parse_args([*arguments_of(command), *given]))
    assert repr(expander) == "Expander('small', max_length={'doc': 7, 'query': 7}, threads=3)"
    expected = Expander(bundle, 7, threads=3, providers=["CPUExecutionProvider"])
    assert expander.fingerprint == expected.fingerprint


@pytest.mark.parametrize("command", ARGUMENTS)
def test_the_embedded_model_is_the_default(command: str) -> None:
    expander = open_expander(build_parser().parse_args(arguments_of(command)))
    assert expander.name == "tiny-en" and expander.fingerprint == Expander().fingerprint


def test_another_model_is_opened_with_the_same_options(bundle: Path) -> None:
    options = build_parser().parse_args(["expand", "--max-length", "7", "the cat"])
    assert open_expander(options, str(bundle)).fingerprint == Expander(bundle, 7).fingerprint


@pytest.mark.slow
def test_the_options_change_the_result(bundle: Path) -> None:
    done = run("expand", "--model", bundle, "--max-length", "4", "the cat sat on the mat")
    assert json.loads(done.stdout) == Expander(bundle, 4).expand("the cat sat on the mat")[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--max-length", "1000"], 2, "max_length=1000 is too large: the doc model has 256 positions"),
        (["--max-length", "2"], 2, "max_length=2 is too small"),
        (["--threads", "0"], 2, "argument --threads: '0' is not an integer of at least 1"),
        (["--provider", "NoSuchProvider"], 1, "NoSuchProvider"),
    ],
)
def test_an_option_that_the_model_cannot_take_is_an_error(options: list[str], status: int, message: str) -> None:
    done = run("expand", *options, "the cat")
    assert done.returncode == status and done.stdout == ""
    assert message in done.stderr.splitlines()[-1]


def test_a_provider_may_have_options(bundle: Path) -> None:
    assert provider("CPUExecutionProvider") == "CPUExecutionProvider"
    expected = ("CUDAExecutionProvider", {"device_id": "1", "gpu_mem_limit": "1000"})
    assert provider("CUDAExecutionProvider:device_id=1,gpu_mem_limit=1000") == expected
    named = [
        "--model",
        str(bundle),
        "--provider",
        "CPUExecutionProvider:use_arena=0",
        "--provider",
        "AzureExecutionProvider",
    ]
    options = build_parser().parse_args(["expand", *named, "the cat"])
    assert options.provider == [("CPUExecutionProvider", {"use_arena": "0"}), "AzureExecutionProvider"]
    del options.provider[1]
    given = Expander(bundle, providers=[("CPUExecutionProvider", {"use_arena": "0"})])
    assert open_expander(options).fingerprint == given.fingerprint != Expander(bundle).fingerprint
    assert given.expand("the cat") == Expander(bundle).expand("the cat")


@pytest.mark.parametrize("text", ["Name:", "Name:key", "Name:=value", "Name:key=", "Name:key=value,"])
def test_an_option_of_a_provider_has_a_name_and_a_value(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not NAME or NAME:KEY=VALUE"):
        provider(text)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", ""])
def test_a_count_is_a_positive_integer(text: str) -> None:
    assert positive_count("12") == 12 and positive_count("9" * 30) == sys.maxsize
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not an integer of at least 1"):
        positive_count(text)


@pytest.mark.parametrize("text", ["0", "-0.5", "nan", "inf", "heavy"])
def test_a_weight_is_a_positive_number(text: str) -> None:
    assert positive_weight("0.25") == 0.25
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not a positive number"):
        positive_weight(text)


@pytest.fixture
def hub(hub: Hub, bundle: Path) -> Hub:
    """A Hub with one repository, whose default branch moves from the bundle to another one after `fetch`."""
    hub.add_folder(REPOSITORY, bundle)
    return hub


@pytest.mark.slow
def test_every_command_loads_what_fetch_has_cached_at_a_revision(hub: Hub, tmp_path: Path, bundle: Path) -> None:
    home = tmp_path / "home"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    online = {**kept, "HF_HOME": str(home), "HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_TELEMETRY": "1"}
    offline = {**online, "HF_HUB_OFFLINE": "1"}
    repository = hub.repositories[REPOSITORY]
    model = f"{REPOSITORY}@{repository.commit}"
    fetched = run("fetch", model, env=online)
    assert fetched.returncode == 0, fetched.stderr
    assert run("fetch", REPOSITORY, "--revision", repository.commit, env=offline).stdout == fetched.stdout
    hub.add_folder(REPOSITORY, write_bundle(tmp_path / "moved", name="moved"))
    hub.requests.clear()

    expected = Expander(bundle)
    (tmp_path / "corpus.tsv").write_text("1\tthe cat\n")
    made = {"text": "the cat", "vector": expected.expand("the cat")[0]}
    (tmp_path / "made.jsonl").write_text(json.dumps(made))
    write_beir(tmp_path / "collection", {"1": ("", "the cat")}, {"q": "cat"}, {"q": {"1": 1}})
    done = {command: run(*arguments_of(command), "--model", model, env=offline, cwd=tmp_path) for command in ARGUMENTS}
    assert {command: each.returncode for command, each in done.items()} == dict.fromkeys(ARGUMENTS, 0), done
    (weights,) = expected.expand("the cat")
    assert json.loads(done["expand"].stdout) == weights
    assert json.loads(done["explain"].stdout)["score"] == expected.explain("cat", "the cat").score
    assert json.loads((tmp_path / "vectors.jsonl").read_text())["vector"] == pytest.approx(weights)
    assert "small" in done["eval"].stdout
    assert hub.requests == []
    refused = run("expand", "--model", REPOSITORY, "the cat", env=offline)  # the default branch is not cached
    assert refused.returncode == 1 and f"fetch {REPOSITORY}" in refused.stderr


def test_a_revision_given_twice_is_a_usage_error() -> None:
    done = run("fetch", "owner/model@v1", "--revision", "v2")
    assert done.returncode == 2 and "given twice: owner/model@v1 and --revision v2" in done.stderr


def test_a_folder_with_an_at_sign_is_a_folder(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "owner" / "model@v1")
    done = subprocess.run(
        [*COMMAND, "expand", "--model", "owner/model@v1", "the cat"], cwd=tmp_path, capture_output=True
    )
    assert json.loads(done.stdout) == Expander(folder).expand("the cat")[0]
