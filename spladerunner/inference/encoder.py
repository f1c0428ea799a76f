"""What turns the tokens of one text into its vector: a graph, or a table with a weight for each token."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spladerunner.errors import ModelFilesError
from spladerunner.inference.pooling import ACTIVATIONS, max_pool, sparsify, sum_pool
from spladerunner.inference.session import Session
from spladerunner.inference.tokenizer import TokenizedText
from spladerunner.vector import SparseVector
from spladerunner.vocabulary import Vocabulary


class Encoder(Protocol):
    """Turns a batch of one text into its vector; safe to share between threads."""

    def __call__(self, batch: TokenizedText) -> SparseVector:
        """The vector; empty where the text has no tokens of its own."""


class GraphEncoder:
    """Runs the graph of a role and pools what it gives.

    session: the opened graph. pooling, activation: by their names in a manifest.
    Raises ModelFilesError if graph and vocabulary are not of one model.
    """

    def __init__(self, session: Session, vocabulary: Vocabulary, pooling: str, activation: str) -> None:
        self._session = session
        self._vocabulary = vocabulary
        self._pooling = pooling
        self._activation = ACTIVATIONS[activation]
        size = self._session.vocabulary_size
        # A graph may have more, as checkpoints that round their vocabulary up do.
        if size is not None and size < len(vocabulary):
            raise ModelFilesError(
                f"{session.path} weighs {size} tokens, but its tokenizer has {len(vocabulary)}: they are not of one "
                "model. Fetch or export it again."
            )

    def __call__(self, batch: TokenizedText) -> SparseVector:
        """The vector of the text."""
        if batch.contents == 0:
            return EMPTY
        output = self._session.run(batch)
        try:
            return self._weigh(output, batch)
        except ValueError as error:
            raise ModelFilesError(f"{self._session.path}: {error}. Fetch or export the model again.") from error

    def _weigh(self, output: NDArray[np.floating], batch: TokenizedText) -> SparseVector:
        activation = None
        if self._session.pools_inside:
            pooled = output.astype(np.float32, copy=False)
        elif self._pooling == "sum":
            pooled = sum_pool(output, batch.mask, self._activation)
        else:
            pooled, activation = max_pool(output, batch.mask), self._activation
        return sparsify(pooled[0, : len(self._vocabulary)], self._vocabulary.carries_weight, activation)


class TokenWeightsEncoder:
    """Gives each token that stands in the text its weight from the table, once, and runs no model.

    Raises ModelFilesError where the table is no float32 array with a weight for each token of the vocabulary.
    """

    def __init__(self, path: Path, vocabulary: Vocabulary) -> None:
        self._table = _read_table(path, len(vocabulary))
        self._table[~vocabulary.carries_weight] = 0

    def __call__(self, batch: TokenizedText) -> SparseVector:
        """The vector of the text."""
        tokens = np.unique(batch.ids)
        weights = self._table[tokens]
        weighed = weights > 0
        return SparseVector(tokens[weighed], weights[weighed])


def _read_table(path: Path, size: int) -> NDArray[np.float32]:
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ModelFilesError(f"{path} cannot be read as a NumPy array: {error}. Fetch or export it again.") from error
    if table.shape != (size,) or table.dtype != np.float32:
        raise ModelFilesError(
            f"{path} is {table.dtype} of shape {table.shape}, where float32 of shape ({size},) belongs, a weight for "
            "each token. Fetch or export it again."
        )
    weights: NDArray[np.float32] = table
    return weights


EMPTY = SparseVector((), ())
