"""Checkpoints: the lengths that their files allow, all of them different."""

from __future__ import annotations

from pathlib import Path

import pytest

from spladerunner.export.checkpoint import Checkpoint
from spladerunner.model.sentence_transformers import MaskedLanguageModel
from tests.checkpoints import SMALL, save_bert, save_tokenizer


@pytest.mark.parametrize(
    ("layout", "tokenizer", "positions", "expected"),
    [(20, 40, 50, 20), (48, 32, 50, 32), (60, 55, 44, 44), (None, 40, 50, 40), (None, 70, 50, 50)],
)
def test_the_least_length_counts(
    tmp_path: Path, layout: int | None, tokenizer: int, positions: int, expected: int
) -> None:
    folder = save_bert(tmp_path / "checkpoint", max_position_embeddings=positions)
    save_tokenizer(folder, max_length=tokenizer)
    opened = Checkpoint(MaskedLanguageModel(folder, max_length=layout))
    assert (opened.max_length, opened.positions) == (expected, positions)


@pytest.mark.parametrize(("family", "positions"), [("bert", 64), ("roberta", 64), ("xlm-roberta", 64)])
def test_positions_of_each_family(tmp_path: Path, family: str, positions: int) -> None:
    """RoBERTa has 66 rows of positions, of which those up to the padding's, 1, are not used for tokens."""
    assert Checkpoint(MaskedLanguageModel(SMALL[family](tmp_path / "checkpoint"))).positions == positions
