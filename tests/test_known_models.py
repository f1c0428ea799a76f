"""Every known model, from its repository to a vector: on loopback with stand-in weights, and on the real Hub.

The same code runs in both cases: `pytest -m network` asks the real Hub, in a few gigabytes, and checks what the models'
own cards publish; the run without it asks a small Hub on loopback whose repositories have the real names and layouts
but small random weights, and checks against torch instead.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from spladerunner import Expander, compare, list_models
from spladerunner.export.silence import silenced
from spladerunner.export.verify import cosine
from spladerunner.model.manifest import MANIFEST, GraphRole, TokenWeightsRole
from spladerunner.model.provenance import ExportManifest
from spladerunner.model.registry import ModelSpec
from spladerunner.models import EMBEDDED
from tests.checkpoints import (
    add_idf,
    pickle_weights,
    save_bert,
    save_bge_m3,
    save_distilbert,
    save_modernbert,
    save_roberta,
    save_sentence_transformers,
)
from tests.conftest import ROOT
from tests.hub_server import Hub, serving
from tests.small_model import TOKENS
from tests.torch_reference import torch_token_head_weights, torch_weights

pytestmark = pytest.mark.usefixtures("quiet_libraries")

KNOWN = [spec for spec in list_models() if spec.name != EMBEDDED]
OPENSEARCH = "opensearch-project/opensearch-neural-sparse-encoding"

MANHATTAN = (
    "The Manhattan Project and its atomic bomb helped bring an end to World War II. Its legacy of peaceful uses of "
    "atomic energy continues to have an impact on history and science."
)
"""The sentence on the card of prithivida/Splade_PP_en_v1, and what it publishes of its expansion."""
MANHATTAN_DIMENSIONS = 112
MANHATTAN_WEIGHTS = {
    "manhattan": 2.32,
    "atomic": 1.74,
    "ny": 1.71,
    "project": 1.7,
    "1945": 1.65,
    "war": 1.54,
    "legacy": 1.52,
    "peaceful": 1.49,
    "bomb": 1.48,
    "end": 1.19,
    "helped": 1.09,
    "impact": 1.07,
    "bring": 1.06,
    "energy": 1.05,
}

WEATHER = ("What's the weather in ny now?", "Currently New York is rainy.")
WEATHER_SCORE = {
    f"{OPENSEARCH}-v1": 22.3299,
    f"{OPENSEARCH}-doc-v1": 12.8465,
    f"{OPENSEARCH}-doc-v2-distill": 17.5307,
    f"{OPENSEARCH}-doc-v3-distill": 11.1105,
}
"""The example on the cards of OpenSearch's models, and the score that each publishes."""

BGE_M3 = (
    "What is BGE M3?",
    "BGE M3 is an embedding model supporting dense retrieval, lexical matching and multi-vector interaction.",
)
BGE_M3_WEIGHTS = {"What": 0.08356, "is": 0.0814, "B": 0.1296, "GE": 0.252, "M": 0.1702, "3": 0.2695, "?": 0.04092}
BGE_M3_SCORE = 0.19555
"""The example on the card of BAAI/bge-m3: the weights of the question, and the score."""

ANSERINI = {
    "naver/splade-v3": {
        "what is paula deen's brother": (
            "he 32 she 34 who 53 ##n 56 family 24 father 29 son 14 brother 138 friend 18 husband 6 whom 3 actor 18 "
            "brothers 113 sons 7 cousin 8 celebrity 4 dee 107 paula 138"
        ),
        "Androgen receptor define": (
            "and 108 is 25 ##r 22 alex 16 plus 86 gene 3 alan 28 emma 4 definition 98 lily 30 biology 42 pedro 8 "
            "enzyme 7 substance 21 gage 7 receptor 123 receptors 106 ser 27 ant 1 pill 27 hormone 83 ##rogen 98 gland 8"
        ),
    },
    "naver/splade-cocondenser-ensembledistil": {
        "what is paula deen's brother": (
            "##n 71 actor 46 boy 4 boyfriend 21 brother 125 brothers 99 celebrity 3 cousin 60 dad 12 dee 126 family 32 "
            "father 34 founder 27 friend 7 he 32 her 22 his 23 husband 17 parents 9 paula 151 relationship 6 s 16 "
            "she 42 siblings 12 sister 2 son 85 sons 4 wife 26"
        ),
    },
}
"""Queries, and the weights in steps of 5 / 256 that Anserini publishes of them, in its SpladeV3EncoderInferenceTest and
SpladePlusPlusEnsembleDistilEncoderInferenceTest (castorini/anserini)."""
ANSERINI_STEP = 5 / 256


FAMILIES = {
    "DistilBERT": save_distilbert,
    "RoBERTa": save_roberta,
    "ModernBERT": save_modernbert,
    "XLM-RoBERTa-large": save_bge_m3,
}
"""By the first word of a shape; all others are BERT, GTE too, which needs transformers 5 (tests/test_gte.py)."""

IN_SENTENCE_TRANSFORMERS = {
    *(spec.name for spec in KNOWN if spec.name.startswith("rasyosef/")),
    "ibm-granite/granite-embedding-30m-sparse",
    "naver/splade-v3",
    "telepix/PIXIE-Splade-Preview",
    "yjoonjang/splade-ko-v1.0",
}
"""Models that are published as sparse encoders of sentence-transformers; OpenSearch's for documents have a Router."""


def stand_ins(folder: Path) -> dict[str, Path]:
    """A checkpoint for every repository of the known models, in the layout of the real one."""
    made: dict[str, Path] = {}
    for spec in KNOWN:
        for repository in {spec.doc, spec.query or spec.doc}:
            family = FAMILIES.get(re.split("[ ,]", spec.shape)[0], save_bert)
            if "BERT-tiny" in spec.shape and repository != spec.doc:
                family = save_bert
            place = folder / repository
            if "sparse-encoding-doc-" in repository or "multilingual" in repository:
                plain = family(folder / "plain" / repository)
                save_sentence_transformers(
                    place, plain, plain, activation="log1p_relu" if "-v3-" in repository else "relu"
                )
                add_idf(place, {"cat": 1.5})
            elif repository in IN_SENTENCE_TRANSFORMERS:
                save_sentence_transformers(place, family(folder / "plain" / repository))
            else:
                family(place)
            if repository != spec.doc:
                reverse_bias(place)  # the models of a pair differ
            if spec.pickled and spec.head == "masked_lm":
                pickle_weights(place)
            (place / "README.md").write_text(f"---\nlicense: {(spec.license or 'other').lower()}\n---\n# A stand-in\n")
            (place / "training_args.bin").write_bytes(b"not needed")
            made[repository] = place
    return made


def reverse_bias(checkpoint: Path) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    for name, tensor in tensors.items():
        if name.endswith("bias") and tensor.shape == (len(TOKENS),):
            tensors[name] = tensor.flip(0).contiguous()
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})


def published_weights(spec: ModelSpec, checkpoint: Path, texts: list[str]) -> np.ndarray:
    """By the published formula in torch, on the model of a stand-in; (texts, V)."""
    if spec.head == "token":
        return torch_token_head_weights(checkpoint, texts, max_length=64)
    plain = checkpoint.parents[1] / "plain" / checkpoint.parent.name / checkpoint.name
    logits = np.expm1(torch_weights(plain if plain.exists() else checkpoint, texts, max_length=64))
    once = np.log1p(logits)
    return {"relu": logits, "log1p_relu": once, "log1p_log1p_relu": np.log1p(once)}[spec.activation]


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, dict[str, Path]]]:
    with silenced():
        checkpoints = stand_ins(tmp_path_factory.mktemp("stand-ins"))
    hub = Hub()
    for name, folder in checkpoints.items():
        hub.add_folder(name, folder)
    with serving(hub):
        yield hub, checkpoints


FEW_TEXTS = """
import sys
from spladerunner.__main__ import main
from spladerunner.export import pipeline
pipeline.verification_texts = lambda: ["the cat sat", "river bank", "x y z"]
for command in sys.stdin.read().splitlines():
    if status := main(command.split()[1:]):
        sys.exit(status)
"""
"""Runs commands, one a line, and verifies on few texts, which suffice for random weights."""


@pytest.fixture(scope="module")
def exported(loopback: tuple[Hub, dict[str, Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of every known model, each made by exactly the command that the registry names."""
    hub, _ = loopback
    folder = tmp_path_factory.mktemp("exported")
    commands = [spec.export_command.replace("FOLDER", str(folder / spec.name)) for spec in KNOWN]
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", FEW_TEXTS], input="\n".join(commands), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


def check_known(spec: ModelSpec, folder: Path) -> None:
    """Checks that do not depend on the weights."""
    manifest = ExportManifest.read(folder / MANIFEST)
    if spec.license:
        assert manifest.license.lower() == spec.license.lower()
    doc, query = manifest.roles["doc"], manifest.roles["query"]
    assert isinstance(doc, GraphRole) and doc.checkpoint is not None and query.checkpoint is not None
    assert doc.checkpoint.name == spec.doc
    assert len(doc.checkpoint.revision or "") == 40
    assert manifest.verification is not None and manifest.verification.shortfalls == ()
    assert (doc.head, doc.pooling, doc.activation) == (spec.head, spec.pooling, spec.activation)
    assert isinstance(query, TokenWeightsRole) or query.lexical == spec.lexical
    if spec.query is None:
        assert isinstance(query, TokenWeightsRole)
    else:
        assert query.checkpoint.name == spec.query


@pytest.mark.parametrize("spec", KNOWN, ids=lambda spec: spec.name)
def test_every_known_model_over_loopback(
    spec: ModelSpec, loopback: tuple[Hub, dict[str, Path]], exported: Path
) -> None:
    hub, checkpoints = loopback
    expander = Expander(exported / spec.name)
    check_known(spec, exported / spec.name)
    assert "training_args.bin" not in hub.downloads()
    for role, repository in (("doc", spec.doc), ("query", spec.query)):
        if repository is not None:
            (vector,) = expander.encode("the cat sat", role=role)  # type: ignore[arg-type]
            expected = published_weights(spec, checkpoints[repository], ["the cat sat"])[0]
            expected[len(expander.vocabulary) :] = 0  # rows that round the vocabulary up
            if spec.lexical and role == "query":
                kept = [TOKENS.index(word) for word in ("the", "cat", "sat")]
                expected[[at for at in range(expected.size) if at not in kept]] = 0
            found = np.zeros_like(expected)
            found[vector.indices] = vector.values
            assert cosine(found, expected) > 0.99
            assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(expected), rel=0.05)
    if spec.query is None:
        static = (checkpoints[spec.doc] / "modules.json").exists()
        expected_weights = {word: 1 + TOKENS.index(word) / 1000 if static else 1.0 for word in ("the", "cat")}
        assert expander.expand_query("the cat the") == [pytest.approx(expected_weights)]


def test_a_revision_that_is_not_there_is_an_error(loopback: tuple[Hub, dict[str, Path]], tmp_path: Path) -> None:
    hub, _ = loopback
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "spladerunner", "export", "-o", str(tmp_path / "bundle"), "--doc"]
    done = subprocess.run([*command, "naver/splade_v2_distil@v9"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "has no revision 'v9'" in done.stderr
    assert not (tmp_path / "bundle").exists()


@pytest.mark.network
@pytest.mark.parametrize("spec", KNOWN, ids=lambda spec: spec.name)
def test_every_known_model_on_the_hub(spec: ModelSpec, tmp_path: Path) -> None:
    command = spec.export_command.replace("FOLDER", str(tmp_path / "bundle")).split()
    subprocess.run([sys.executable, "-m", *command], check=True)
    expander = Expander(tmp_path / "bundle")
    check_known(spec, tmp_path / "bundle")
    assert len(expander.vocabulary) == spec.vocabulary
    if spec.name == "prithivida/Splade_PP_en_v1":
        check_manhattan(expander)
    if spec.name in WEATHER_SCORE:
        assert expander.explain(*WEATHER).score == pytest.approx(WEATHER_SCORE[spec.name], rel=0.02)
    if spec.name == "BAAI/bge-m3":
        (found,) = expander.expand_query(BGE_M3[0])
        assert {token.lstrip("▁"): weight for token, weight in found.items()} == pytest.approx(BGE_M3_WEIGHTS, abs=0.01)
        assert expander.explain(*BGE_M3).score == pytest.approx(BGE_M3_SCORE, rel=0.1)
    if spec.name in ANSERINI:
        check_anserini(expander, ANSERINI[spec.name])


@pytest.mark.network
def test_the_graph_of_splade_pp_on_the_hub() -> None:
    check_manhattan(Expander("Splade_PP_en_v1", 128))


def check_anserini(expander: Expander, published: Mapping[str, str]) -> None:
    for query, steps in published.items():
        words = steps.split()
        expected = {token: int(weight) * ANSERINI_STEP for token, weight in zip(words[::2], words[1::2], strict=True)}
        found = compare(expander, [query], [expected], role="query")
        assert found.worst_cosine > 0.98 and found.residual < 0.2 and found.findings == (), found


def check_manhattan(expander: Expander) -> None:
    (weights,) = expander.expand(MANHATTAN)
    assert len(weights) == pytest.approx(MANHATTAN_DIMENSIONS, abs=5)
    for token, weight in MANHATTAN_WEIGHTS.items():
        assert weights[token] == pytest.approx(weight, abs=0.05)
