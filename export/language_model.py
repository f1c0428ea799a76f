"""What an export needs of a masked language model, whether it comes as a checkpoint or as a graph."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spladerunner.errors import CheckpointError
from spladerunner.export.passes.contract import Graph

ROUNDED_UP_TO = 128
"""Models may round their vocabulary up to a multiple of this; more rows without a token are an error."""


class LanguageModel(Protocol):
    """A masked language model, with the pooling and activation of its logits.

    folder: of its files. pooling, activation: names as in a manifest.
    max_length: tokens read of a text, the least that its files allow.
    positions: the most tokens that the model accepts, None if it sets no limit.
    vocabulary_size: number of tokens; the model may have a few rows more.
    weight_type: as in a manifest. quantization: None if the weights are float32; else they are kept as they are.
    converter: what makes its graph, for the manifest. tools: the packages which that uses.
    """

    folder: Path
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
        """Writes folder/model.onnx, from input_ids to logits, with its weights inside, and returns it."""

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


def position_count(config: Mapping[str, Any]) -> int | None:
    """Number of tokens that the position embedding of a config.json accepts, None if it does not say.

    Examples:
        >>> position_count({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1})
        512
    """
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int):
        return None
    if str(config.get("model_type")) in ("roberta", "xlm-roberta", "camembert"):
        padding = config.get("pad_token_id")
        return positions - 1 - (padding if isinstance(padding, int) else 1)  # positions start after the padding's
    return positions


def read_json(path: Path) -> dict[str, Any]:
    """Reads a configuration, empty if there is none. Raises CheckpointError if it is not a JSON object."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", path=path) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a JSON object.", path=path)
    return content
