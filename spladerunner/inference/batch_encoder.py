"""Turns batches of texts into vectors on a GPU, whose graph pools inside."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from spladerunner.errors import ModelFilesError
from spladerunner.inference.batches import MOST_TOKENS, Batch, TokenBudget
from spladerunner.inference.cuda import free_memory
from spladerunner.inference.encoder import EMPTY, GraphEncoder
from spladerunner.inference.host_memory import HostMemory
from spladerunner.inference.pooling import sparsify_rows
from spladerunner.inference.session import DeviceMemoryError, Session
from spladerunner.inference.tokenizer import TokenizedText
from spladerunner.vector import SparseVector
from spladerunner.vocabulary import Vocabulary

if TYPE_CHECKING:  # numpy.typing is slow to import
    from numpy.typing import NDArray

BYTES_PER_TOKEN = 64 * 1024
"""Memory that a run takes for each token, at most: activations of BERT-large and the logits of a tile, in float16."""


class BatchEncoder(GraphEncoder):
    """Runs batches of texts on the device of a session.

    budget: tokens of a run at most, by the device's free memory; halved, with one warning, if a run needs more.
    """

    def __init__(self, session: Session, vocabulary: Vocabulary) -> None:
        super().__init__(session, vocabulary, "max", "relu")  # the graph does both
        assert session.device is not None
        free = free_memory(session.device)
        self.budget = TokenBudget(MOST_TOKENS if free is None else min(MOST_TOKENS, free // 2 // BYTES_PER_TOKEN))
        self._memory = HostMemory(session.device)
        self._warned = False

    def __call__(self, text: TokenizedText) -> SparseVector:
        """The vector of one text, which runs alone and unpadded."""
        (vector,) = self.encode(Batch.of([(0, text)], text.tokens))
        return vector

    def encode(self, batch: Batch) -> list[SparseVector]:
        """A vector for each text of a batch.

        Raises ModelFilesError if the graph fails or gives numbers that are not finite, and DeviceMemoryError if a
        single text does not fit into the device's memory.
        """
        assert self._session.vocabulary_size is not None
        shape = len(batch.places), self._session.vocabulary_size
        with self._memory.array(shape, self._session.output_type) as weights:
            try:
                self._session.run_batch(batch, weights)
            except DeviceMemoryError:
                if len(batch.places) == 1:
                    raise
            else:
                return self._vectors(batch, weights)
        self.budget.lower_to(batch.tokens // 2)
        self._warn(batch)
        return [vector for half in batch.halves() for vector in self.encode(half)]

    def _vectors(self, batch: Batch, weights: NDArray[np.floating]) -> list[SparseVector]:
        try:
            vectors = sparsify_rows(weights[:, : len(self._vocabulary)], self._vocabulary.carries_weight)
        except ValueError as error:
            raise ModelFilesError(
                f"{self._session.path}: {error}. Fetch or export the model again.", path=self._session.path
            ) from error
        return [vector if content else EMPTY for vector, content in zip(vectors, batch.content_tokens, strict=True)]

    def _warn(self, batch: Batch) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{self._session.path}: {batch.tokens} tokens do not fit into the memory of the device, so its runs "
                f"take at most {self.budget.tokens} from now on, or fewer.",
                RuntimeWarning,
                stacklevel=2,
            )
