from __future__ import annotations

from spladerunner import list_models
from spladerunner.model.registry import close_names, find_model
from spladerunner.models import EMBEDDED, embedded_folder


def test_the_embedded_pair_comes_first_and_is_there() -> None:
    assert list_models()[0].name == EMBEDDED
    assert (embedded_folder() / "manifest.json").is_file()


def test_names_are_unique() -> None:
    names = [spec.name for spec in list_models()]
    assert len(names) == len(set(names))


def test_licences_tell_whether_commercial_use_is_allowed() -> None:
    allowed = {spec.name: spec.commercial_use for spec in list_models()}
    assert allowed[EMBEDDED] and allowed["prithivida/Splade_PP_en_v1"]
    assert allowed["naver/splade-v3-distilbert"] is False
    assert allowed["rasyosef/splade-tiny"] is None


def test_a_known_model_is_found_with_its_owner_or_without() -> None:
    spec = find_model("prithivida/Splade_PP_en_v1")
    assert spec is not None and find_model("Splade_PP_en_v1") == spec
    assert spec.onnx == "Qdrant/Splade_PP_en_v1"
    assert find_model("no-such-model") is None


def test_close_names_are_the_likely_ones() -> None:
    assert close_names("naver/splade-v3-destilbert")[0] == "naver/splade-v3-distilbert"
    assert close_names("zzzzzz") == []


def test_every_row_says_what_makes_it_and_how_good_it_is() -> None:
    for spec in list_models():
        assert spec.doc in spec.export_command and spec.shape and spec.parameters > 0
        assert ("--inference-free" in spec.export_command) == (spec.query is None)
