"""The interface of a masked language model for an export, from a checkpoint or from a graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spladerunner.errors import CheckpointError
from spladerunner.export.passes.contract import Graph

ROUNDED_UP_TO = 128
"""Models may round their vocabulary up to a multiple of this; more rows without a token are an error."""


class LanguageModel(Protocol):
    """A masked language model, with the pooling and activation of its logits.

    folder: of its files. prompt: what comes before every text, None for nothing.
    head, pooling, activation: names as in a manifest.
    max_length: tokens read of a text, the least that its files allow.
    positions: the most tokens that the model accepts, None if it sets no limit.
    vocabulary_size: number of tokens; the model may have a few rows more.
    weight_type: as in a manifest. quantization: None if the weights are float32; else they are kept as they are.
    converter: what makes its graph, for the manifest. tools: the packages which that uses.
    """

    folder: Path
    prompt: str | None
    head: str
    pooling: str
    activation: str
    max_length: int
    positions: int | None
    vocabulary_size: int
    weight_type: str
    quantization: str | None
    converter: str
    tools: tuple[str, ...]

    def save_tokenizer(self, path: Path) -> None:
        """Writes tokenizer.json."""

    def convert(self, folder: Path) -> Graph:
        """Writes folder/model.onnx, from input_ids to logits, and returns it.

        Its weights are inside, or beside it for a token head.
        """

    def weights_of(self, texts: Iterable[str], max_length: int) -> Iterator[NDArray[np.float32]]:
        """Weights of texts by the model as published, one text at a time: a (V,) array each."""


def check_vocabulary(folder: Path, *, tokens: int, rows: int) -> None:
    """Raises CheckpointError if a model of `rows` vocabulary entries cannot be that of a tokenizer of `tokens`."""
    if not tokens <= rows < tokens + ROUNDED_UP_TO:
        raise CheckpointError(
            f"{folder} has a vocabulary of {rows} entries and a tokenizer of {tokens} tokens: they belong to "
            "different models.",
            path=folder,
        )
