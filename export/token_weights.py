"""Token weights: queries without a model, by a weight for each token."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray

from spladerunner.errors import CheckpointError
from spladerunner.export.source import SAFETENSORS
from spladerunner.export.tokenizer import save_tokenizer, special_ids
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
    def of_idf(cls, path: Path, tokenizer: tokenizers.Tokenizer) -> TokenWeights:
        """Weights from a JSON file {token: weight}, as OpenSearch's models have it; 0 for other tokens."""
        positions = tokenizer.get_vocab()
        weights = np.zeros(len(positions), dtype=np.float32)
        try:
            for token, weight in json.loads(path.read_text(encoding="utf-8")).items():
                weights[positions[token]] = weight
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise CheckpointError(f"{path} cannot be read as {{token: weight}}: {error}", path=path) from error
        except KeyError as error:
            raise CheckpointError(
                f"{path} has a weight for {error}, which its tokenizer does not have.", path=path
            ) from error
        return cls(path.parent, weights, tokenizer)

    @classmethod
    def of_static_embedding(cls, folder: Path, tokenizer: tokenizers.Tokenizer) -> TokenWeights:
        """Weights of a SparseStaticEmbedding of sentence-transformers."""
        from safetensors import SafetensorError  # few models have such a file
        from safetensors.numpy import load_file

        path = folder / SAFETENSORS
        try:
            return cls(folder, load_file(path)["weight"].astype(np.float32), tokenizer)
        except (OSError, SafetensorError, KeyError) as error:
            raise CheckpointError(f"{path} cannot be read as a static embedding: {error}", path=path) from error

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
