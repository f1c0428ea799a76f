"""Turns a tokenized text into its vector: by a graph with one of the known heads, or by a weight for each token."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from spladerunner.errors import ModelFilesError
from spladerunner.inference.pooling import ACTIVATIONS, max_pool, sparsify, sparsify_tokens, sum_pool
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
    """Runs the graph of a role, which has a masked-LM head, and pools its output.

    session: the opened graph. pooling, activation: names in POOLINGS and ACTIVATIONS.
    entries: the positions in the vocabulary that the graph weighs, (K,) int32 ascending; None for all.
    Raises ModelFilesError if the graph has another head, or does not have a logit for each entry.
    """

    def __init__(
        self,
        session: Session,
        vocabulary: Vocabulary,
        pooling: str,
        activation: str,
        entries: NDArray[np.int32] | None = None,
    ) -> None:
        self._session = session
        self._vocabulary = vocabulary
        self._entries = entries
        self._carries_weight = vocabulary.carries_weight if entries is None else vocabulary.carries_weight[entries]
        self._size = self._carries_weight.size
        self._pooling = pooling
        self._activation = ACTIVATIONS[activation]
        self._check_head()

    def _check_head(self) -> None:
        session, pooling = self._session, self._pooling
        size = session.vocabulary_size
        if session.keeps_largest and pooling != "max":
            raise ModelFilesError(
                f"{session.path} keeps the largest logits alone, which cannot become the pooling {pooling!r}. Fetch or "
                "export the model again.",
                path=session.path,
                expected="max",
                found=pooling,
            )
        if size is not None and not self._fits(size):
            whose = "its tokenizer has" if self._entries is None else "its manifest says"
            raise ModelFilesError(
                f"{session.path} weighs {size} tokens, but {whose} {self._size}: they belong to different models. "
                "Fetch or export the model again.",
                path=session.path,
                expected=self._size,
                found=size,
            )

    def _fits(self, size: int) -> bool:
        """True for as many logits as entries. Of a whole vocabulary there may be more: some checkpoints round it up."""
        return size == self._size or (size > self._size and self._entries is None)

    def __call__(self, text: TokenizedText) -> SparseVector:
        """The vector of the text. Raises ModelFilesError if the graph fails or gives numbers that are not finite."""
        if text.content_tokens == 0:
            return EMPTY
        output = self._session.run(text)
        try:
            self._check_shape(output, text)
            return self._weigh(output, text)
        except ValueError as error:
            raise self._defective(error) from error

    @property
    def entries(self) -> NDArray[np.int32]:
        """The positions in the vocabulary that the graph weighs, ascending."""
        return np.arange(self._size, dtype=np.int32) if self._entries is None else self._entries

    @property
    def pools_inside(self) -> bool:
        """True if the graph gives weights, not logits."""
        return self._session.pools_inside

    def logits(self, text: TokenizedText) -> NDArray[np.floating] | None:
        """The logits of a text, (L, V), or the largest of them, (1, V); None if the graph gives no such logits.

        With entries, they are (L, K). Raises ModelFilesError as a call does.
        """
        if self._session.pools_inside:
            return None
        output = self._session.run(text)
        try:
            self._check_shape(output, text)
        except ValueError as error:
            raise self._defective(error) from error
        return output[0, :, : self._size]

    def _defective(self, error: ValueError) -> ModelFilesError:
        return ModelFilesError(
            f"{self._session.path}: {error}. Fetch or export the model again.", path=self._session.path
        )

    def _check_shape(self, output: NDArray[np.floating], text: TokenizedText) -> None:
        """Raises ValueError if the axes of the output are not those of logits: batch, tokens, vocabulary."""
        logits = (1, 1) if self._session.keeps_largest else text.ids.shape
        expected = (1,) if self._session.pools_inside else logits
        if output.shape[:-1] != expected or not self._fits(output.shape[-1]):
            raise ValueError(
                f"its output for {text.ids.shape[1]} tokens has the shape {output.shape}, not "
                f"({', '.join(map(str, expected))}, {self._size})"
            )

    def _weigh(self, output: NDArray[np.floating], text: TokenizedText) -> SparseVector:
        activation = None
        if self._session.pools_inside:
            pooled = output.astype(np.float32, copy=False)
        elif self._pooling == "sum":
            pooled = sum_pool(output, text.mask, self._activation)
        else:
            pooled, activation = max_pool(output, text.mask), self._activation
        vector = sparsify(pooled[0, : self._size], self._carries_weight, activation)
        return vector if self._entries is None else SparseVector(self._entries[vector.indices], vector.values)


class TokenHeadEncoder(GraphEncoder):
    """Runs the graph of a role, which has a token head, and takes the largest weight of each token.

    Raises ModelFilesError if the graph has another head.
    """

    def _check_head(self) -> None:
        session = self._session
        if session.pools_inside or session.keeps_largest or session.vocabulary_size not in (1, None):
            found = session.vocabulary_size
            raise ModelFilesError(
                f"{session.path} gives {found} numbers, but its manifest says that it has a token head, which gives "
                "one for each position. Fetch or export the model again.",
                path=session.path,
                expected=1,
                found=found,
            )

    def logits(self, text: TokenizedText) -> None:
        """Gives none, since there are none over the vocabulary."""

    def _check_shape(self, output: NDArray[np.floating], text: TokenizedText) -> None:
        if output.shape != (*text.ids.shape, 1):
            length = text.ids.size
            raise ValueError(f"its output for {length} tokens has the shape {output.shape}, not (1, {length}, 1)")

    def _weigh(self, output: NDArray[np.floating], text: TokenizedText) -> SparseVector:
        return sparsify_tokens(output[0, :, 0], text.ids[0], self._vocabulary.carries_weight, self._activation)


class LexicalEncoder:
    """Keeps of the vectors of an encoder only the tokens of the text: they are weighed, and none is added.

    SPLADE-v3-Lexical does so with queries (Lassance et al., 2024, arXiv 2403.06789).
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def __call__(self, text: TokenizedText) -> SparseVector:
        """The vector of the text. Raises what the encoder raises."""
        vector = self.encoder(text)
        kept = np.isin(vector.indices, text.ids)
        return SparseVector(vector.indices[kept], vector.values[kept])


GRAPH_ENCODERS: Mapping[str, type[GraphEncoder]] = {"masked_lm": GraphEncoder, "token": TokenHeadEncoder}
"""Encoder of a graph, by the name of its head in HEADS."""


class TokenWeightsEncoder:
    """Gives each token of a text its weight, once, without a model.

    path: of the weights, for errors. weights: (V,) float32.
    Raises ModelFilesError if there is not one for each token, or one is negative, infinite or not a number.
    """

    def __init__(self, path: Path, weights: NDArray[np.float32], vocabulary: Vocabulary) -> None:
        if weights.shape != (len(vocabulary),):
            raise ModelFilesError(
                f"{path} has weights of shape {weights.shape} for {len(vocabulary)} tokens. Fetch or export it again.",
                path=path,
                expected=(len(vocabulary),),
                found=weights.shape,
            )
        wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
        if wrong.size:
            raise ModelFilesError(
                f"{path} gives the token {vocabulary.tokens[wrong[0]]!r} the weight {weights[wrong[0]]}; weights are "
                "finite and not negative. Fetch or export it again.",
                path=path,
                expected="a finite number that is not negative",
                found=float(weights[wrong[0]]),
            )
        self._weights = np.where(vocabulary.carries_weight, weights, np.float32(0))

    def __call__(self, text: TokenizedText) -> SparseVector:
        """The vector of the text."""
        if text.content_tokens == 0:
            return EMPTY
        tokens = np.unique(text.ids)
        weights = self._weights[tokens]
        positive = weights > 0
        return SparseVector(tokens[positive], weights[positive])


EMPTY = SparseVector((), ())
