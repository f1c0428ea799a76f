"""How near a bundle's vectors are to those of its checkpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spladerunner.expander import Expander
from spladerunner.model.manifest import RoleName
from spladerunner.vector import SparseVector

WORST_COSINE = 0.99
"""No text's vector may be further from the checkpoint's than this."""

MEAN_TOP20 = 0.90
"""The share of the checkpoint's 20 heaviest tokens that the vectors must keep, averaged over the texts."""

FP32_DIFFERENCE = 1e-4
"""No weight of the float32 graph may be further from the checkpoint's than this."""

TOP = 20


@dataclass(frozen=True)
class Agreement:
    """What was measured over the verification texts, for the graph of one role.

    Times are milliseconds a text, on one thread: fp32_ms of the graph as it was converted, ms of the bundle's.
    """

    texts: int
    fp32_largest_difference: float
    worst_cosine: float
    worst_text: str
    mean_cosine: float
    mean_shared_top20: float
    mean_weights: float
    fp32_ms: float
    ms: float

    def shortfalls(self) -> list[str]:
        """What fell short, each with the measured and the allowed figure."""
        found = []
        if not self.fp32_largest_difference <= FP32_DIFFERENCE:
            found.append(
                f"the float32 graph's largest difference {self.fp32_largest_difference:.2g} is above "
                f"{FP32_DIFFERENCE:.0e}"
            )
        if not self.worst_cosine >= WORST_COSINE:
            found.append(f"worst cosine {self.worst_cosine:.4f} is below {WORST_COSINE} (for {self.worst_text!r})")
        if not self.mean_shared_top20 >= MEAN_TOP20:
            found.append(f"mean shared top-20 tokens {self.mean_shared_top20:.1%} is below {MEAN_TOP20:.0%}")
        return found


@dataclass(frozen=True)
class TokenWeightsAgreement:
    """The same for a role that is served by a table."""

    texts: int
    largest_difference: float
    mean_weights: float
    ms: float

    def shortfalls(self) -> list[str]:
        """What fell short, with the measured and the allowed figure."""
        if self.largest_difference <= FP32_DIFFERENCE:
            return []
        return [f"the table's largest difference {self.largest_difference:.2g} is above {FP32_DIFFERENCE:.0e}"]


def verification_texts() -> list[str]:
    """The varied texts that ship with the export: questions, prose, long documents, other languages, code, numbers."""
    lines = (Path(__file__).parent / "verification.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def measure(
    texts: Sequence[str],
    expected: Iterable[NDArray[np.float32]],
    fp32: Expander,
    bundle: Expander,
    role: RoleName,
) -> Agreement:
    """Compares the vectors of two expanders with the expected weights, a (V,) array for each text."""
    fp32_vectors, fp32_ms = _timed(fp32, texts, role)
    vectors, ms = _timed(bundle, texts, role)
    differences, cosines, shared = [], [], []
    for weights, exact, quantized in zip(expected, fp32_vectors, vectors, strict=True):
        differences.append(float(np.abs(_dense(exact, weights.size) - weights).max()))
        vector = _dense(quantized, weights.size)
        cosines.append(cosine(vector, weights))
        top = min(TOP, int(np.count_nonzero(weights)))
        if top:
            shared.append(len(set(_heaviest(vector, top)) & set(_heaviest(weights, top))) / top)
    worst = int(np.argmin(cosines))
    return Agreement(
        texts=len(texts),
        fp32_largest_difference=max(differences),
        worst_cosine=cosines[worst],
        worst_text=texts[worst][:60],
        mean_cosine=float(np.mean(cosines)),
        mean_shared_top20=float(np.mean(shared)),
        mean_weights=float(np.mean([len(vector) for vector in vectors])),
        fp32_ms=fp32_ms,
        ms=ms,
    )


def measure_token_weights(
    texts: Sequence[str], expected: Iterable[NDArray[np.float32]], bundle: Expander, role: RoleName
) -> TokenWeightsAgreement:
    """Compares a table's vectors with the expected weights, a (V,) array for each text."""
    vectors, ms = _timed(bundle, texts, role)
    differences = [
        float(np.abs(_dense(vector, weights.size) - weights).max())
        for vector, weights in zip(vectors, expected, strict=True)
    ]
    return TokenWeightsAgreement(
        texts=len(texts),
        largest_difference=max(differences),
        mean_weights=float(np.mean([len(vector) for vector in vectors])),
        ms=ms,
    )


def cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The cosine of the angle between two vectors; 1 for two zero vectors, 0 where only one is zero."""
    lengths = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    if lengths == 0:
        return float(not first.any() and not second.any())
    return float(np.dot(first.astype(np.float64), second.astype(np.float64))) / lengths


def _timed(expander: Expander, texts: Sequence[str], role: RoleName) -> tuple[list[SparseVector], float]:
    expander.encode(texts[:1], role=role)  # opens the graph
    started = time.perf_counter()
    vectors = expander.encode(texts, role=role)
    return vectors, (time.perf_counter() - started) * 1000 / len(texts)


def _dense(vector: SparseVector, size: int) -> NDArray[np.float32]:
    dense = np.zeros(size, dtype=np.float32)
    dense[vector.indices] = vector.values
    return dense


def _heaviest(weights: NDArray[np.float32], count: int) -> list[int]:
    heaviest: list[int] = np.argsort(-weights, kind="stable")[:count].tolist()
    return heaviest
