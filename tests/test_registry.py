from __future__ import annotations

from pathlib import Path

import pytest

from spladerunner import UnknownModelError, list_models
from spladerunner.registry import EMBEDDED, embedded_folder, locate


def test_the_embedded_pair_comes_first_and_is_there() -> None:
    assert list_models()[0].name == EMBEDDED
    assert (embedded_folder() / "manifest.json").is_file()
    assert locate(EMBEDDED) == embedded_folder()


def test_names_are_unique() -> None:
    names = [spec.name for spec in list_models()]
    assert len(names) == len(set(names))


def test_licences_tell_whether_commercial_use_is_allowed() -> None:
    allowed = {spec.name: spec.commercial_use for spec in list_models()}
    assert allowed[EMBEDDED] and allowed["prithivida/Splade_PP_en_v1"]
    assert not allowed["naver/splade-v3-distilbert"]


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert locate(tmp_path) == locate(str(tmp_path)) == tmp_path


def test_a_known_model_that_is_not_here_says_what_makes_it() -> None:
    with pytest.raises(UnknownModelError, match=r"efficient-splade-V-large-doc.*spladerunner export --doc"):
        locate("naver/efficient-splade-V-large")


def test_an_unknown_name_without_a_close_match_says_where_the_names_are() -> None:
    with pytest.raises(UnknownModelError, match=r"'zzzzzz' and no known model of that name\. `spladerunner models`"):
        locate("zzzzzz")
