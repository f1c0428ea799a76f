"""Exports: the trained pair through the command, and small random checkpoints that must be refused."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from transformers import AutoConfig, AutoTokenizer, BertConfig, BertModel

import spladerunner.export
from spladerunner import CheckpointError, Expander, InputError, VerificationError
from spladerunner.cli.main import main
from spladerunner.export import ExportOptions, export_bundle, pipeline, verify
from spladerunner.export.checkpoint import Checkpoint
from spladerunner.export.passes import QUANTIZATIONS, passes
from spladerunner.export.verify import GraphVerifier, verification_texts
from spladerunner.model.bundle import Bundle
from spladerunner.model.manifest import MANIFEST, GraphRole
from spladerunner.model.provenance import ExportManifest, GraphAgreement
from spladerunner.model.sentence_transformers import MaskedLanguageModel
from tests.checkpoints import save_bert
from tests.conftest import ROOT
from tests.small_model import TOKENS

SHIPPED = ROOT / "models" / "tiny-en"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "verification_texts", lambda: ["the cat sat", "river bank " * 40, ""])


@pytest.fixture(scope="module")
def exported(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The trained pair through the command, and what the command printed."""
    folder = tmp_path_factory.mktemp("exported") / "tiny-en"
    pair = [word for role in ("doc", "query") for word in (f"--{role}", str(shared / "tiny-en" / role))]
    done = subprocess.run(
        [sys.executable, "-m", "spladerunner", "export", *pair, "-o", folder, "--license", "Apache-2.0"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return folder, done.stderr


def test_the_command_reports_each_pass_with_size_and_time(exported: tuple[Path, str]) -> None:
    lines = exported[1].splitlines()
    for name in ("convert", *(each.name for each in passes("cpu", positions=256))):
        for role in ("doc", "query"):
            assert any(re.match(rf"{name} +{role} +[\d.]+ MB +[\d.]+ s$", line) for line in lines), (name, lines)
    assert sum("cosine worst" in line for line in lines) == 2
    assert lines[-1].startswith(str(exported[0]))


def test_the_command_makes_the_bundle_that_ships(exported: tuple[Path, str]) -> None:
    made, shipped = (ExportManifest.read(folder / MANIFEST) for folder in (exported[0], SHIPPED))
    same = {"doc.onnx", "doc.onnx.data", "query.onnx", "query.onnx.data", "tokenizer.json"}
    same |= {"config.json", "tokenizer_config.json"}
    assert {name: made.files[name] for name in same} == {name: shipped.files[name] for name in same}
    assert made.files.keys() == shipped.files.keys() == same | {"README.md"}
    assert (made.name, made.license, made.vocabulary) == (shipped.name, shipped.license, shipped.vocabulary)
    assert made.roles == shipped.roles


def test_manifest_and_card_have_command_and_measurements(exported: tuple[Path, str]) -> None:
    manifest = ExportManifest.read(exported[0] / MANIFEST)
    assert (manifest.name, manifest.license, manifest.weight_type) == ("tiny-en", "Apache-2.0", "int8")
    assert manifest.verification is not None and manifest.verification.shortfalls == ()
    card = (exported[0] / "README.md").read_text(encoding="utf-8")
    for name, role in manifest.roles.items():
        assert isinstance(role, GraphRole) and role.checkpoint is not None
        assert role.checkpoint.name == f"./tiny-en/{name}" and role.quantization == QUANTIZATIONS[0]
        measured = manifest.verification.roles[name]
        assert isinstance(measured, GraphAgreement)
        assert measured.texts >= 200
        assert measured.worst_cosine >= 0.99 and measured.mean_cosine >= 0.999
        assert measured.fp32_largest_difference <= 1e-4
        assert measured.bytes == sum(path.stat().st_size for path in exported[0].glob(f"{name}.onnx*"))
        assert f"{measured.worst_cosine:.4f}" in card
    assert manifest.made_by is not None
    assert manifest.made_by.versions["onnxruntime"] == onnxruntime.__version__
    command = (
        r"spladerunner export --doc \./tiny-en/doc --query \./tiny-en/query -o \./\S+/tiny-en --license Apache-2\.0"
    )
    assert re.fullmatch(command, manifest.made_by.command)
    assert f"made by | `{manifest.made_by.command}` |" in card and "{" not in card


def test_the_verification_texts_are_many_and_varied() -> None:
    texts = verification_texts()
    assert len(set(texts)) == len(texts) >= 200
    assert sum(len(text.split()) > 512 for text in texts) >= 10
    assert sum(not text.isascii() for text in texts) >= 30
    assert any("def " in text for text in texts) and any(len(text) < 10 for text in texts)


@pytest.mark.usefixtures("few_texts")
def test_one_checkpoint_becomes_a_symmetric_bundle(checkpoint: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    folder = export_bundle(ExportOptions(checkpoint, tmp_path / "made", accept_drift=True), progress=lines.append)
    roles = Bundle.open(folder).roles
    assert roles["doc"] == roles["query"] and roles["doc"].max_length == 64
    expander = Expander(folder)
    assert expander.encode("the cat") == expander.encode("the cat", role="query")
    assert not (folder / "query.onnx").exists()
    assert any(line.startswith("convert") for line in lines)


@pytest.mark.usefixtures("few_texts")
def test_other_libraries_recognize_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(verify.GraphVerifier, "measure", dense(verify.GraphVerifier.measure))
    checkpoint = save_bert(tmp_path / "checkpoint")
    config = json.loads((checkpoint / "config.json").read_text())
    elsewhere = {"_name_or_path": "/home/ada/trained", "auto_map": {"AutoModel": "ada/remote--model.Model"}}
    (checkpoint / "config.json").write_text(json.dumps({**config, **elsewhere}))
    (checkpoint / "README.md").write_text("---\nlicense: mit\nlanguage: de\n---\n# Trained\n")
    lines: list[str] = []
    folder = export_bundle(ExportOptions(checkpoint, tmp_path / "made", accept_drift=True), progress=lines.append)
    assert "ada" not in "".join(path.read_text() for path in folder.glob("*.json"))
    assert AutoConfig.from_pretrained(folder).model_type == "bert"
    tokens = AutoTokenizer.from_pretrained(folder)("the cat sat")["input_ids"]
    assert tokens == AutoTokenizer.from_pretrained(checkpoint)("the cat sat")["input_ids"]
    files = ExportManifest.read(folder / MANIFEST).files
    assert {"config.json", "tokenizer_config.json", "README.md"} < files.keys()
    card = (folder / "README.md").read_text()
    assert "license: mit\n" in card and "language:\n- de\n" in card
    assert "  the published formula: 1 of 3 texts" in lines and "  the bundle's graph: 2 of 3 texts" in lines
    warning = f"doc: a text has {len(TOKENS)} weights on average, of {len(TOKENS)} tokens"
    assert any(line.startswith(f"warning: {warning}") for line in lines) and f"**Warning:** {warning}" in card


def dense(measure: Callable[..., GraphAgreement]) -> Callable[..., GraphAgreement]:
    """As measure, of a model that fires on its whole vocabulary."""
    return lambda *arguments: replace(measure(*arguments), mean_weights=float(len(TOKENS)))


def test_two_vocabularies_cannot_be_paired(checkpoint: Path, tmp_path: Path) -> None:
    tokens = [*TOKENS[:10], "horse", *TOKENS[11:]]
    other = save_bert(tmp_path / "other", tokens)
    with pytest.raises(CheckpointError, match=rf"cannot be paired.* {len(TOKENS)} and {len(TOKENS)} .* position 10 on"):
        export_bundle(ExportOptions(checkpoint, tmp_path / "made", other))
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.usefixtures("few_texts")
def test_a_bundle_that_falls_short_is_an_error_with_the_figures(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drifted = GraphAgreement(3, 1e-3, 0.95, "the cat sat", 0.97, 0.5, 10.0, 1.0, 1.0, 1000, 100)
    monkeypatch.setattr(GraphVerifier, "measure", lambda *_: drifted)
    with pytest.raises(
        VerificationError,
        match=r"difference 0.001 is above 1e-04.*cosine 0.9500 is below 0.99 .*top-20 tokens 50.0% is below 90%",
    ) as caught:
        export_bundle(ExportOptions(checkpoint, tmp_path / "made"))
    assert len(caught.value.shortfalls) == 3
    assert list(tmp_path.iterdir()) == []
    lines: list[str] = []
    folder = export_bundle(ExportOptions(checkpoint, tmp_path / "made", accept_drift=True), progress=lines.append)
    manifest = ExportManifest.read(folder / MANIFEST)
    assert manifest.verification is not None and manifest.made_by is not None
    assert manifest.verification.shortfalls == caught.value.shortfalls
    assert "**Warning:** doc: the worst cosine 0.9500" in (folder / "README.md").read_text()
    assert sum(line.startswith("warning: doc: ") for line in lines) == 3
    assert "--accept-drift" in manifest.made_by.command


@pytest.mark.usefixtures("few_texts")
def test_an_interrupted_export_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(GraphVerifier, "measure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_bundle(ExportOptions(checkpoint, tmp_path / "made"))
    assert list(tmp_path.iterdir()) == []


def test_a_killed_export_leaves_no_bundle_under_its_name(shared: Path, tmp_path: Path) -> None:
    checkpoint, output = str(shared / "tiny-en" / "doc"), str(tmp_path / "b")
    command = [sys.executable, "-m", "spladerunner", "export", "--doc", checkpoint, "-o", output]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("external data"):
                break
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "b").exists()


def test_an_output_that_exists_is_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(CheckpointError, match="exists already"):
        export_bundle(ExportOptions(checkpoint, tmp_path))
    with pytest.raises(CheckpointError, match="exists already"):
        export_bundle(ExportOptions(checkpoint, tmp_path / "mine"))
    assert (tmp_path / "mine").read_text() == "kept"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_checkpoint_without_a_file_is_named(tmp_path: Path, name: str) -> None:
    folder = save_bert(tmp_path / "half")
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"has no {name}"):
        export_bundle(ExportOptions(folder, tmp_path / "made"))
    assert not (tmp_path / "made").exists()


def test_a_checkpoint_cut_in_half_is_named(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "half")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        export_bundle(ExportOptions(folder, tmp_path / "made"))


def test_a_checkpoint_without_a_masked_lm_head_is_refused(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "headless")
    BertModel(BertConfig.from_pretrained(folder)).save_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"its weights lack \['cls\.predictions"):
        export_bundle(ExportOptions(folder, tmp_path / "made"))


def test_a_missing_extra_is_an_error_with_the_pip_command(checkpoint: Path, tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["optimum"] = None
from spladerunner import MissingExtraError
from spladerunner.export import ExportOptions, export_bundle
print(sorted({{"onnx", "torch", "transformers"}} & set(sys.modules)))
try:
    export_bundle(ExportOptions({str(checkpoint)!r}, {str(tmp_path / "made")!r}))
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    light, message = done.stdout.splitlines()
    assert light == "[]" and message.endswith("pip install 'spladerunner[export]'")


@pytest.mark.usefixtures("few_texts")
def test_a_smaller_decoder_keeps_what_a_corpus_makes_positive(checkpoint: Path, tmp_path: Path) -> None:
    whole = Expander(export_bundle(ExportOptions(checkpoint, tmp_path / "whole", accept_drift=True)))
    texts = ["the cat", "river bank", "money, money"]
    corpus, vectors = tmp_path / "corpus.txt", tmp_path / "vectors.jsonl"
    corpus.write_text("\n".join(texts[:2]))
    # A small random model has weights at the same tokens for all texts.
    assert main(["encode", str(corpus), "-o", str(vectors), "--model", str(tmp_path / "whole"), "--top", "9"]) == 0
    kept = sorted({index for vector in whole.encode(texts[:2]) for index in vector.top(9).as_dict()})
    lines: list[str] = []
    options = ExportOptions(checkpoint, tmp_path / "made", vocabulary=vectors, accept_drift=True)
    folder = export_bundle(options, progress=lines.append)

    smaller = Expander(folder)
    expected = [{at: weight for at, weight in vector.as_dict().items() if at in kept} for vector in whole.encode(texts)]
    assert all(0 < len(some) < len(full) for some, full in zip(expected, whole.encode(texts), strict=True))
    assert [vector.as_dict() for vector in smaller.encode(texts)] == expected  # bit for bit
    assert [vector.as_dict() for vector in smaller.encode(texts, role="query")] == expected

    manifest = ExportManifest.read(folder / MANIFEST)
    role, verification = manifest.roles["doc"], manifest.verification
    assert isinstance(role, GraphRole) and role.entries == "entries.json" and "entries.json" in manifest.files
    assert json.loads((folder / "entries.json").read_text()) == kept
    assert manifest.made_by is not None and f"--vocabulary ./{tmp_path.name}/vectors.jsonl" in manifest.made_by.command
    assert verification is not None
    agreement = verification.roles["doc"]
    assert isinstance(agreement, GraphAgreement) and agreement.lost_weight is not None
    formula = Checkpoint(MaskedLanguageModel(checkpoint)).weights_of(["the cat sat", "river bank " * 40, ""], 64)
    weights = np.stack(list(formula)).astype(np.float64)
    assert agreement.lost_weight == pytest.approx(1 - weights[:, kept].sum() / weights.sum(), rel=1e-6)
    assert 0 < agreement.lost_weight < 1
    assert agreement.mean_cosine == pytest.approx(2 / 3, abs=0.01)  # the empty text has no vector here
    card = (folder / "README.md").read_text()
    assert f"| weight lost at entries that were left out | {agreement.lost_weight:.1%} |" in card
    assert "for the vocabulary entries in entries.json alone" in card
    said = f"  doc: entries that were left out have {agreement.lost_weight:.1%} of the texts' weight"
    assert said in lines
    assert any(line.endswith(f"{len(kept)} of {len(TOKENS)} entries") for line in lines)


@pytest.mark.parametrize(
    ("line", "changes", "message"),
    [
        ('{"vector": {"atom": 1}}', {}, "line 1: 'atom' is not a token of this vocabulary"),
        ('{"indices": [1000], "values": [1]}', {}, "line 1: index 1000 is not in a vocabulary of"),
        ('{"vector": {"cat": 0, "[CLS]": 1}}', {}, "has no positive weight, so no vocabulary entry would be left"),
        ('{"vector": {"cat": 1}}', {"target": "cuda"}, "leave it or --for cuda out"),
    ],
)
def test_a_file_that_no_decoder_can_be_made_for(
    checkpoint: Path, tmp_path: Path, line: str, changes: dict[str, Any], message: str
) -> None:
    given = tmp_path / "vectors.jsonl"
    given.write_text(f"{line}\n")
    with pytest.raises((CheckpointError, InputError), match=re.escape(message)):
        export_bundle(ExportOptions(checkpoint, tmp_path / "made", vocabulary=given, **changes))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vectors.jsonl"]


def test_the_command_of_options_is_parsed_to_the_same_options(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ExportOptions(
        doc="a folder/doc",
        output="out",
        query="owner/name@v1",
        target="cuda",
        pooling="sum",
        activation="relu",
        allow_pickle=True,
        name="it's a name",
        license="Apache-2.0",
        vocabulary="a corpus/vectors.jsonl",
        accept_drift=True,
    )
    seen: list[ExportOptions] = []
    monkeypatch.setattr(spladerunner.export, "export_bundle", lambda given, **_: seen.append(given))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    for given in (options, replace(options, query=None, inference_free=True)):
        assert main(shlex.split(given.command())[1:]) == 0
    assert seen == [options, replace(options, query=None, inference_free=True)]


FULL = """
import subprocess, sys
from pathlib import Path
from spladerunner.__main__ import main
from spladerunner.export import pipeline
pipeline.verification_texts = lambda: ["the cat sat"]
checkpoint, disk = sys.argv[1:]
for kilobytes in (64, 192, 320, 2048):
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", disk], check=True)
    status = main(["export", "--doc", checkpoint, "-o", f"{disk}/made", "--accept-drift"])
    print("outcome:", status, *(path.name for path in Path(disk).iterdir()), file=sys.stderr)
    subprocess.run(["umount", disk], check=True)
"""


@pytest.mark.slow
def test_a_full_disk_is_called_that_wherever_it_is_noticed(tmp_path: Path) -> None:
    unshare = ["unshare", "--map-root-user", "--mount"]
    (tmp_path / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(tmp_path / "disk")]
    if not shutil.which("unshare") or subprocess.run([*unshare, *mount], capture_output=True).returncode:
        pytest.skip("needs a small file system of its own, which this machine does not let a user mount")
    checkpoint = save_bert(tmp_path / "checkpoint")
    done = subprocess.run(
        [*unshare, sys.executable, "-c", FULL, checkpoint, tmp_path / "disk"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    outcomes = re.findall("^outcome: (.*)$", done.stderr, re.MULTILINE)
    assert outcomes == ["1"] * (len(outcomes) - 1) + ["0 made"]
    errors = re.findall("^spladerunner: (.*)$", done.stderr, re.MULTILINE)
    assert len(errors) == outcomes.count("1")
    assert all("no space is left on its disk" in error for error in errors), errors
