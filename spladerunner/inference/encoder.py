"""Turns a tokenized text into its vector: by a graph, or by a weight for each token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from spladerunner.errors import ModelFilesError
from spladerunner.inference.pooling import ACTIVATIONS, max_pool, sparsify, sum_pool
from spladerunner.inference.session import Session
from spladerunner.inference.tokenizer import TokenizedText
from spladerunner.vector import SparseVector
from spladerunner.vocabulary import Vocabulary

if TYPE_CHECKING:  # numpy.typing is slow to import
    from numpy.typing import NDArray


class Encoder(Protocol):
    """Turns a text into its vector; safe to share between threads."""

    def __call__(self, text: TokenizedText) -> SparseVector:
        """The vector; empty if the text has no tokens but special ones."""


class GraphEncoder:
    """Runs the graph of a role and pools its output.

    session: the opened graph. pooling, activation: names in POOLINGS and ACTIVATIONS.
    Raises ModelFilesError if the graph has fewer logits than the vocabulary has tokens.
    """

    def __init__(self, session: Session, vocabulary: Vocabulary, pooling: str, activation: str) -> None:
        self._session = session
        self._vocabulary = vocabulary
        self._pooling = pooling
        self._activation = ACTIVATIONS[activation]
        size = self._session.vocabulary_size
        # A graph may have more: some checkpoints round their vocabulary up.
        if size is not None and size < len(vocabulary):
            raise ModelFilesError(
                f"{session.path} weighs {size} tokens, but its tokenizer has {len(vocabulary)}: they belong to "
                "different models. Fetch or export the model again.",
                path=session.path,
                expected=len(vocabulary),
                found=size,
            )

    def __call__(self, text: TokenizedText) -> SparseVector:
        """The vector of the text. Raises ModelFilesError if the graph fails or gives numbers that are not finite."""
        if text.content_tokens == 0:
            return EMPTY
        output = self._session.run(text)
        try:
            return self._weigh(output, text)
        except ValueError as error:
            raise ModelFilesError(
                f"{self._session.path}: {error}. Fetch or export the model again.", path=self._session.path
            ) from error

    def _weigh(self, output: NDArray[np.floating], text: TokenizedText) -> SparseVector:
        activation = None
        if self._session.pools_inside:
            pooled = output.astype(np.float32, copy=False)
        elif self._pooling == "sum":
            pooled = sum_pool(output, text.mask, self._activation)
        else:
            pooled, activation = max_pool(output, text.mask), self._activation
        return sparsify(pooled[0, : len(self._vocabulary)], self._vocabulary.carries_weight, activation)


class TokenWeightsEncoder:
    """Gives each token of a text its weight, once, without a model.

    path: a NumPy file of (V,) float32. Raises ModelFilesError if it is not.
    """

    def __init__(self, path: Path, vocabulary: Vocabulary) -> None:
        self._weights = _read_weights(path, len(vocabulary))
        self._weights[~vocabulary.carries_weight] = 0

    def __call__(self, text: TokenizedText) -> SparseVector:
        """The vector of the text."""
        tokens = np.unique(text.ids)
        weights = self._weights[tokens]
        positive = weights > 0
        return SparseVector(tokens[positive], weights[positive])


def _read_weights(path: Path, size: int) -> NDArray[np.float32]:
    try:
        weights = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ModelFilesError(
            f"{path} cannot be read as a NumPy array: {error}. Fetch or export it again.", path=path
        ) from error
    if weights.shape != (size,) or weights.dtype != np.float32:
        raise ModelFilesError(
            f"{path} is {weights.dtype} of shape {weights.shape}, not float32 of shape ({size},), a weight for each "
            "token. Fetch or export it again.",
            path=path,
            expected=("float32", (size,)),
            found=(str(weights.dtype), weights.shape),
        )
    checked: NDArray[np.float32] = weights
    return checked


EMPTY = SparseVector((), ())
