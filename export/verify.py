"""Agreement of a bundle's vectors with those of its checkpoint, and the limits that it must hold."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spladerunner.export.language_model import LanguageModel
from spladerunner.export.options import Target
from spladerunner.export.passes import Graph
from spladerunner.export.progress import Progress
from spladerunner.export.token_weights import TokenWeights
from spladerunner.inference.encoder import GRAPH_ENCODERS, Encoder
from spladerunner.inference.session import Session
from spladerunner.inference.tokenizer import TokenizedText, Tokenizer
from spladerunner.model.provenance import Agreement, CopyAgreement, GraphAgreement
from spladerunner.vector import SparseVector


class Limits(NamedTuple):
    """Least agreement of a bundle with its checkpoint.

    worst_cosine: of any text's vector. mean_top20: share of the checkpoint's 20 heaviest tokens that the vectors keep,
    averaged over the texts.
    """

    worst_cosine: float
    mean_top20: float


LIMITS: Mapping[Target, Limits] = {"cpu": Limits(0.99, 0.90), "cuda": Limits(0.999, 0.99)}
"""int8 loses more than float16."""

FP32_DIFFERENCE = 1e-4
"""The largest difference of any weight between the float32 graph and the model."""

TOP = 20

PROGRESS_SECONDS = 10.0
"""The time between two lines of progress: a BERT-base model takes minutes."""


class Reference(NamedTuple):
    """Reference of every graph of a model.

    weights: by the published formula, a (V,) array for each text. The other figures are of the float32 graph.
    """

    weights: Sequence[NDArray[np.float32]]
    fp32_largest_difference: float
    fp32_ms: float
    fp32_bytes: int


class GraphVerifier:
    """Compares graphs of one checkpoint with its published formula, on one thread.

    The formula and the float32 graph run once, however many graphs are compared.
    converted: the float32 graph. tokenizer: of the bundle. progress: told how far it is, every PROGRESS_SECONDS.
    entries: the vocabulary entries that the compared graphs have, (K,) int32, at which they are compared; None for all.
    """

    def __init__(
        self,
        model: LanguageModel,
        converted: Graph,
        tokenizer: Tokenizer,
        texts: Sequence[str],
        progress: Progress = lambda _: None,
        entries: NDArray[np.int32] | None = None,
    ) -> None:
        self._progress = progress
        self._entries = entries
        self._model = model
        self._converted = converted
        self._tokenizer = tokenizer
        self._texts = texts

    @cached_property
    def reference(self) -> Reference:
        """The weights by the published formula, and the float32 graph's agreement with them."""
        vectors, fp32_ms = self._encode(self._converted.path, "the float32 graph")
        watched = self._watched(self._texts, "the published formula")
        weights = list(self._model.weights_of(watched, self._model.max_length))
        return Reference(weights, _largest_difference(vectors, weights), fp32_ms, self._converted.size)

    def measure(self, graph: Path) -> GraphAgreement:
        """Measures the agreement of a graph."""
        reference = self.reference
        vectors, ms = self._encode(graph, "the bundle's graph", self._entries)
        cosines, shared = [], []
        for vector, weights in zip(vectors, map(self._kept, reference.weights), strict=True):
            dense = _dense(vector, weights.size)
            cosines.append(cosine(dense, weights))
            if top := min(TOP, int(np.count_nonzero(weights))):
                shared.append(len(set(_heaviest(dense, top)) & set(_heaviest(weights, top))) / top)
        worst = int(np.argmin(cosines))
        return GraphAgreement(
            texts=len(self._texts),
            fp32_largest_difference=reference.fp32_largest_difference,
            worst_cosine=cosines[worst],
            worst_text=self._texts[worst][:60],
            mean_cosine=float(np.mean(cosines)),
            mean_shared_top20=float(np.mean(shared)),
            mean_weights=_mean_weights(vectors),
            fp32_ms=reference.fp32_ms,
            ms=ms,
            fp32_bytes=reference.fp32_bytes,
            bytes=Graph(graph).size,
            lost_weight=None if self._entries is None else self._lost_weight(),
        )

    def _kept(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """The weights (V,) at the entries that the compared graphs have, and 0 elsewhere."""
        if self._entries is None:
            return weights
        kept = np.zeros_like(weights)
        kept[self._entries] = weights[self._entries]
        return kept

    def _lost_weight(self) -> float:
        weights = self.reference.weights
        total = sum(float(each.sum()) for each in weights)
        return 1 - sum(float(self._kept(each).sum()) for each in weights) / total if total else 0.0

    def _watched(self, texts: Iterable[str], what: str) -> Iterator[str]:
        told = time.monotonic()
        for done, text in enumerate(texts):
            if time.monotonic() - told >= PROGRESS_SECONDS:
                told = time.monotonic()
                self._progress(f"  {what}: {done} of {len(self._texts)} texts")
            yield text

    def _encode(
        self, graph: Path, what: str, entries: NDArray[np.int32] | None = None
    ) -> tuple[list[SparseVector], float]:
        model = self._model
        encoder = GRAPH_ENCODERS[model.head](
            Session(graph), self._tokenizer.vocabulary, model.pooling, model.activation, entries
        )
        return _timed(encoder, self._tokenizer, self._texts, self._model.max_length, partial(self._watched, what=what))


def measure_copy(
    source: LanguageModel | TokenWeights,
    encoder: Encoder,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    max_length: int,
    size: int,
) -> CopyAgreement:
    """Measures the agreement of what was copied into the bundle with its source. size: its bytes."""
    vectors, ms = _timed(encoder, tokenizer, texts, max_length)
    return CopyAgreement(
        texts=len(texts),
        largest_difference=_largest_difference(vectors, list(source.weights_of(texts, max_length))),
        mean_weights=_mean_weights(vectors),
        ms=ms,
        bytes=size,
    )


def shortfalls(agreement: Agreement, target: Target = "cpu") -> list[str]:
    """Every limit that an agreement misses, with the measured and the allowed figure.

    target: of the bundle.

    Examples:
        >>> shortfalls(CopyAgreement(texts=3, largest_difference=0.5, mean_weights=7.0, ms=0.1, bytes=1024))
        ['the largest difference from the source 0.5 is above 1e-04']
    """
    if isinstance(agreement, CopyAgreement):
        difference = agreement.largest_difference
        if difference <= FP32_DIFFERENCE:
            return []
        return [f"the largest difference from the source {difference:.2g} is above {FP32_DIFFERENCE:.0e}"]
    found = []
    # Each is written so that NaN falls short.
    if not agreement.fp32_largest_difference <= FP32_DIFFERENCE:
        difference = agreement.fp32_largest_difference
        found.append(f"the float32 graph's largest difference {difference:.2g} is above {FP32_DIFFERENCE:.0e}")
    least = LIMITS[target]
    if not agreement.worst_cosine >= least.worst_cosine:
        text = agreement.worst_text
        found.append(f"the worst cosine {agreement.worst_cosine:.4f} is below {least.worst_cosine} (for {text!r})")
    if not agreement.mean_shared_top20 >= least.mean_top20:
        share = agreement.mean_shared_top20
        found.append(f"the mean share of top-20 tokens {share:.1%} is below {least.mean_top20:.0%}")
    return found


def density_warning(agreement: Agreement, vocabulary_size: int) -> str | None:
    """A warning if a text has weights at most of the vocabulary: the model is then no sparse one, or read wrongly.

    Examples:
        >>> density_warning(CopyAgreement(texts=3, largest_difference=0.0, mean_weights=28615, ms=0.1, bytes=9), 30522)
        'a text has 28,615 weights on average, of 30,522 tokens; is the checkpoint a SPLADE model, ...'
    """
    if agreement.mean_weights <= vocabulary_size / 2:
        return None
    return (
        f"a text has {agreement.mean_weights:,.0f} weights on average, of {vocabulary_size:,} tokens; is the "
        "checkpoint a SPLADE model, and is its pooling stated?"
    )


def verification_texts() -> list[str]:
    """The texts that an export compares: questions, prose, long documents, other languages, code, numbers."""
    lines = (Path(__file__).parent / "verification.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Cosine of the angle between two vectors; 1 for two zero vectors, 0 if only one is zero."""
    lengths = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    if lengths == 0:
        return float(not first.any() and not second.any())
    return float(np.dot(first.astype(np.float64), second.astype(np.float64))) / lengths


def _timed(
    encoder: Callable[[TokenizedText], SparseVector],
    tokenizer: Tokenizer,
    texts: Sequence[str],
    max_length: int,
    watched: Callable[[Sequence[str]], Iterable[str]] = iter,
) -> tuple[list[SparseVector], float]:
    """Vectors of the texts, and milliseconds a text. watched: yields the texts, and may tell how far it is."""
    encoder(tokenizer.encode(texts[0], max_length))  # the first run allocates
    started = time.perf_counter()
    vectors = [encoder(tokenizer.encode(text, max_length)) for text in watched(texts)]
    return vectors, (time.perf_counter() - started) * 1000 / len(texts)


def _largest_difference(vectors: Sequence[SparseVector], expected: Sequence[NDArray[np.float32]]) -> float:
    pairs = zip(vectors, expected, strict=True)
    return max(float(np.abs(_dense(vector, weights.size) - weights).max()) for vector, weights in pairs)


def _mean_weights(vectors: Sequence[SparseVector]) -> float:
    return float(np.mean([len(vector) for vector in vectors]))


def _dense(vector: SparseVector, size: int) -> NDArray[np.float32]:
    dense = np.zeros(size, dtype=np.float32)
    dense[vector.indices] = vector.values
    return dense


def _heaviest(weights: NDArray[np.float32], count: int) -> list[int]:
    heaviest: list[int] = np.argsort(-weights, kind="stable")[:count].tolist()
    return heaviest
