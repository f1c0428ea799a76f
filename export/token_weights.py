"""Token weights: queries without a model, by a weight for each token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray

from spladerunner.errors import CheckpointError
from spladerunner.export.tokenizer import save_tokenizer, special_ids
from spladerunner.model.token_weights import read_token_weights
from spladerunner.vocabulary import Vocabulary


class TokenWeights:
    """A weight for each token of a tokenizer. weights: (V,) float32.

    Raises CheckpointError if the weights do not fit the tokenizer.
    """

    def __init__(self, folder: Path, weights: NDArray[np.float32], tokenizer: tokenizers.Tokenizer) -> None:
        size = tokenizer.get_vocab_size()
        if weights.shape != (size,) or not np.isfinite(weights).all() or (weights < 0).any():
            raise CheckpointError(
                f"{folder} has weights of shape {weights.shape} for {size} tokens; there must be one for each, finite "
                "and not negative.",
                path=folder,
            )
        self.folder = folder
        self.prompt: str | None = None
        self.weights = weights
        self._tokenizer = tokenizer

    @classmethod
    def of_ones(cls, folder: Path, tokenizer: tokenizers.Tokenizer) -> TokenWeights:
        """Weight 1 for each token, as for queries of naver/splade-v3-doc."""
        return cls(folder, np.ones(tokenizer.get_vocab_size(), dtype=np.float32), tokenizer)

    @classmethod
    def of_file(cls, path: Path, tokenizer: tokenizers.Tokenizer) -> TokenWeights:
        """Weights from OpenSearch's idf.json, or a SparseStaticEmbedding of sentence-transformers.

        Raises CheckpointError if the file cannot be read, ModelFilesError if it does not fit the tokenizer.
        """
        positions = tokenizer.get_vocab()
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error}", path=path) from error
        return cls(path.parent, read_token_weights(path, content, positions, len(positions)), tokenizer)

    def save_tokenizer(self, path: Path) -> None:
        """Writes tokenizer.json."""
        save_tokenizer(self._tokenizer, path)

    def save(self, path: Path, vocabulary: Vocabulary) -> None:
        """Writes the weights as a NumPy file, with 0 for special tokens."""
        np.save(path, np.where(vocabulary.carries_weight, self.weights, 0).astype(np.float32))

    def weights_of(self, texts: Iterable[str], max_length: int) -> Iterator[NDArray[np.float32]]:
        """Weights of texts, a (V,) array each."""
        special = special_ids(self._tokenizer)
        self._tokenizer.enable_truncation(max_length)
        for text in texts:
            ids = self._tokenizer.encode(text).ids
            weights = np.zeros_like(self.weights)
            weights[ids] = self.weights[ids]
            weights[special] = 0
            yield weights
