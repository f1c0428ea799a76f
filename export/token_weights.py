"""Token weights: queries without a model, by a weight for each token."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from spladerunner.errors import CheckpointError
from spladerunner.export.checkpoint import save_tokenizer
from spladerunner.export.silence import silenced
from spladerunner.export.source import SAFETENSORS
from spladerunner.vocabulary import Vocabulary


class TokenWeights:
    """A weight for each token of a tokenizer. weights: (V,) float32.

    Raises CheckpointError if the tokenizer cannot be loaded, or the weights do not fit it.
    """

    def __init__(self, folder: Path, weights: NDArray[np.float32]) -> None:
        self.folder = folder
        self._tokenizer = _load_tokenizer(folder)
        if weights.shape != (len(self._tokenizer),) or not np.isfinite(weights).all() or (weights < 0).any():
            raise CheckpointError(
                f"{folder} has weights of shape {weights.shape} for {len(self._tokenizer)} tokens; there must be one "
                "for each, finite and not negative.",
                path=folder,
            )
        self.weights = weights

    @classmethod
    def of_ones(cls, folder: Path) -> TokenWeights:
        """Weight 1 for each token, as for queries of naver/splade-v3-doc."""
        return cls(folder, np.ones(len(_load_tokenizer(folder)), dtype=np.float32))

    @classmethod
    def of_idf(cls, path: Path) -> TokenWeights:
        """Weights from a JSON file {token: weight}, as OpenSearch's models have it; 0 for other tokens."""
        tokenizer = _load_tokenizer(path.parent)
        positions = tokenizer.get_vocab()
        weights = np.zeros(len(tokenizer), dtype=np.float32)
        try:
            for token, weight in json.loads(path.read_text(encoding="utf-8")).items():
                weights[positions[token]] = weight
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise CheckpointError(f"{path} cannot be read as {{token: weight}}: {error}", path=path) from error
        except KeyError as error:
            raise CheckpointError(
                f"{path} has a weight for {error}, which its tokenizer does not have.", path=path
            ) from error
        return cls(path.parent, weights)

    @classmethod
    def of_static_embedding(cls, folder: Path) -> TokenWeights:
        """Weights of a SparseStaticEmbedding of sentence-transformers."""
        path = folder / SAFETENSORS
        try:
            return cls(folder, load_file(path)["weight"].astype(np.float32))
        except (OSError, SafetensorError, KeyError) as error:
            raise CheckpointError(f"{path} cannot be read as a static embedding: {error}", path=path) from error

    def save_tokenizer(self, path: Path) -> None:
        """Writes tokenizer.json."""
        save_tokenizer(self._tokenizer, path)

    def save(self, path: Path, vocabulary: Vocabulary) -> None:
        """Writes the weights as a NumPy file, with 0 for special tokens."""
        np.save(path, np.where(vocabulary.carries_weight, self.weights, 0).astype(np.float32))

    def weights_of(self, texts: Iterable[str], max_length: int) -> Iterator[NDArray[np.float32]]:
        """Weights of texts by transformers' tokenizer, a (V,) array each."""
        for text in texts:
            ids = self._tokenizer(text, truncation=True, max_length=max_length)["input_ids"]
            weights = np.zeros_like(self.weights)
            weights[ids] = self.weights[ids]
            weights[self._tokenizer.all_special_ids] = 0
            yield weights


@silenced()
def _load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    try:
        return AutoTokenizer.from_pretrained(  # type: ignore[no-untyped-call, no-any-return]
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # the parts of transformers share no narrower type
        raise CheckpointError(f"{folder} has no tokenizer that can be loaded: {error}", path=folder) from error
