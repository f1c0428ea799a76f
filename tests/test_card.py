from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from spladerunner.export.card import card
from spladerunner.export.verify import density_warning
from spladerunner.model.manifest import MANIFEST, CheckpointRecord, RoleName
from spladerunner.model.provenance import CopyAgreement, ExportManifest, GraphAgreement
from tests.conftest import ROOT

SHIPPED = ROOT / "models" / "tiny-en"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def manifest() -> ExportManifest:
    return ExportManifest.read(SHIPPED / MANIFEST)


def from_the_hub(manifest: ExportManifest, **names: str) -> ExportManifest:
    roles = {
        name: replace(role, checkpoint=CheckpointRecord(names[name], COMMIT)) for name, role in manifest.roles.items()
    }
    return replace(manifest, roles=roles)


def test_the_front_matter_is_what_the_hub_reads(manifest: ExportManifest) -> None:
    pair = from_the_hub(manifest, doc="naver/a-doc", query="naver/a-query")
    front = ModelCard(card(replace(pair, license="CC-BY-NC-SA-4.0"), ["en", "no"])).data.to_dict()
    assert front == {
        "language": ["en", "no"],  # not YAML's false
        "license": "cc-by-nc-sa-4.0",
        "library_name": "spladerunner",
        "tags": ["splade", "sparse", "sparse-encoder", "onnx"],
        "base_model": ["naver/a-doc", "naver/a-query"],
        "base_model_relation": "quantized",
        "pipeline_tag": "feature-extraction",
    }
    one = from_the_hub(manifest, doc="owner/name", query="owner/name")
    assert ModelCard(card(one)).data.to_dict()["base_model"] == ["owner/name"]
    assert "base_model_relation" not in ModelCard(card(replace(one, weight_type="float32"))).data.to_dict()


def test_a_folder_is_no_base_model_and_does_not_read_like_one(manifest: ExportManifest) -> None:
    text = (SHIPPED / "README.md").read_text(encoding="utf-8")
    assert "base_model" not in ModelCard(text).data.to_dict() and "language" not in ModelCard(text).data.to_dict()
    assert "| doc | ./tiny-en/doc |" in text and "--doc ./tiny-en/doc --query ./tiny-en/query" in text
    assert text == card(manifest)


@pytest.mark.parametrize(("weights", "warns"), [(15261.0, False), (15262.0, True), (28615.0, True)])
def test_a_model_that_fires_on_most_of_its_vocabulary_gets_a_warning(
    manifest: ExportManifest, weights: float, warns: bool
) -> None:
    agreement = CopyAgreement(texts=3, largest_difference=0.0, mean_weights=weights, ms=0.1, bytes=9)
    assert (density_warning(agreement, 30_522) is not None) == warns
    if warns:
        assert f"{weights:,.0f} weights on average, of 30,522 tokens" in (density_warning(agreement, 30_522) or "")


def test_the_card_has_the_warning(manifest: ExportManifest) -> None:
    assert manifest.verification is not None
    assert "**Warning:**" not in card(manifest)
    roles: dict[RoleName, GraphAgreement] = {}
    for name, agreement in manifest.verification.roles.items():
        assert isinstance(agreement, GraphAgreement)
        roles[name] = replace(agreement, mean_weights=20_000.0) if name == "query" else agreement
    dense = replace(manifest, verification=replace(manifest.verification, roles=roles))
    assert card(dense).count("**Warning:**") == 1
    assert "**Warning:** query: a text has 20,000 weights on average, of 20,480 tokens;" in card(dense)


def test_the_bundle_has_the_configurations_of_its_checkpoint(shared: Path) -> None:
    for name in ("config.json", "tokenizer_config.json"):
        theirs = (shared / "tiny-en" / "doc" / name).read_text(encoding="utf-8")
        assert (SHIPPED / name).read_text(encoding="utf-8").split() == theirs.split()
