"""docs/coming-from.md: the code of sentence-transformers runs on a small checkpoint, and agrees with spladerunner's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import SparseEncoder

from spladerunner import Expander
from spladerunner.export import ExportOptions, export_bundle, pipeline
from tests.checkpoints import save_bert
from tests.conftest import ROOT
from tests.page_runner import blocks

PAGE = ROOT / "docs" / "coming-from.md"


@pytest.mark.usefixtures("quiet_libraries")
def test_sentence_transformers_and_spladerunner_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = save_bert(tmp_path / "checkpoint")
    code = [block.content for block in blocks(PAGE.read_text(encoding="utf-8")) if block.language == "python"]
    (theirs,) = [block for block in code if "SparseEncoder" in block]
    (ours,) = [block for block in code if 'Expander("my-bundle")' in block]
    texts = ('["a document"]', '["the cat sat on the mat", "river bank"]'), ('["a query"]', '["the cat"]')
    for given, instead in texts:
        assert given in theirs and given in ours
        theirs, ours = theirs.replace(given, instead), ours.replace(given, instead)
    expected: dict[str, Any] = {}
    exec(theirs.replace('"naver/splade-v3-distilbert"', repr(str(checkpoint))), expected)
    assert isinstance(expected["model"], SparseEncoder)
    monkeypatch.setattr(pipeline, "verification_texts", lambda: ["the cat sat"])
    export_bundle(ExportOptions(checkpoint, tmp_path / "my-bundle"), progress=lambda _: None)
    found: dict[str, Any] = {"Expander": Expander}
    exec(ours.replace("Expander()", repr_of(tmp_path / "my-bundle")), found)
    scores = found["model"].similarity(found["queries"], found["documents"])
    theirs_dense = {name: expected[name].to_dense().numpy() for name in ("queries", "documents")}
    for dense in theirs_dense.values():
        dense[:, expected["model"].tokenizer.all_special_ids] = 0  # as the page says
    reference = theirs_dense["queries"] @ theirs_dense["documents"].T
    assert scores.shape == reference.shape == (1, 2)
    assert scores.ravel() == pytest.approx(reference.ravel(), rel=0.05)  # int8 against float32
    decoded = dict(expected["model"].decode(expected["documents"][0], top_k=10))
    weights = found["model"].vocabulary.weights(found["documents"][0].top(5))
    assert len(decoded.keys() & weights.keys()) >= 4
    assert "(1, 2)" in capsys.readouterr().out


def repr_of(folder: Path) -> str:
    return f"Expander({str(folder)!r})"
