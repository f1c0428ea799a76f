"""Mistakes of other systems: what each makes of a text's logits, and how it is said.

A recipe is a way to make a vector: what is read of a text, by which model, with which pooling and activation. The
model's own recipe is the one that is right; others differ from it in one way or in several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from spladerunner.model.manifest import RoleName

if TYPE_CHECKING:  # numpy.typing is slow to import
    from numpy.typing import NDArray

Activation = Callable[["NDArray[np.float32]"], "NDArray[np.float32]"]


def _relu(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.maximum(logits, 0)


def _log1p_relu(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.log1p(_relu(logits))


def _log1p_log1p_relu(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.log1p(_log1p_relu(logits))


def _softplus(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    softened: NDArray[np.float32] = np.logaddexp(logits, np.float32(0))
    return softened


def _log1p_softplus(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.log1p(_softplus(logits))


ACTIVATIONS: dict[str, Activation] = {
    "relu": _relu,
    "log1p_relu": _log1p_relu,
    "log1p_log1p_relu": _log1p_log1p_relu,
    "softplus": _softplus,
    "log1p_softplus": _log1p_softplus,
}
"""Functions from a logit to a weight: those of published models, and softplus in their place."""

LOGARITHMS = {"relu": 0, "log1p_relu": 1, "log1p_log1p_relu": 2}

_FORMULAS = {
    "relu": "relu(x)",
    "log1p_relu": "log(1 + relu(x))",
    "log1p_log1p_relu": "log(1 + log(1 + relu(x)))",
    "softplus": "log(1 + exp(x))",
    "log1p_softplus": "log(1 + log(1 + exp(x)))",
}

_POSITIONS = {"first": 0, "last": -1}

_POOLINGS = {
    "max": "the maximum over all positions",
    "sum": "the sum over all positions",
    "mean": "the mean over all positions",
    "first": "position 0 alone",
    "last": "the last position alone",
}


class Reading(NamedTuple):
    """The tokens read of a text: its first max_length, by the model of a role."""

    role: RoleName
    max_length: int


class Recipe(NamedTuple):
    """A way to make a vector of a text.

    pooling, activation: keys of the tables of this module. lexical: it keeps only the tokens of the text.
    """

    reading: Reading
    pooling: str
    activation: str
    lexical: bool = False

    def departures(self, own: Recipe) -> list[str]:
        """Differences from the model's own recipe, a sentence for each."""
        found = []
        if self.reading.role != own.reading.role:
            found.append(f"The model is that for {_texts(self.reading.role)}, not for {_texts(own.reading.role)}.")
        elif self.reading.max_length < own.reading.max_length:
            found.append(f"Texts are cut at {self.reading.max_length} tokens, not at {own.reading.max_length}.")
        elif self.reading.max_length > own.reading.max_length:
            found.append(f"More than {own.reading.max_length} tokens of a text are read.")
        if self.pooling != own.pooling:
            known = " Elasticsearch does so with such models (elastic/eland#827)." * (self.pooling == "first")
            found.append(f"The weights are those of {_POOLINGS[self.pooling]}, not {_POOLINGS[own.pooling]}.{known}")
        if self.activation != own.activation:
            found.append(f"{self._activation_is(own)}: {_FORMULAS[self.activation]}, not {_FORMULAS[own.activation]}.")
        if self.lexical != own.lexical:
            found.append("Texts are expanded; the model's vectors keep only the tokens of the text.")
        return found

    def _activation_is(self, own: Recipe) -> str:
        if self.activation not in LOGARITHMS:
            return "The activation is a softplus"
        fewer = LOGARITHMS[self.activation] < LOGARITHMS[own.activation]
        return "A logarithm is missing" if fewer else "A logarithm is taken once more"


def weights_of(logits: NDArray[np.floating]) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    """The weights of a text by each pooling and activation: (pooling, activation, (V,) float32).

    logits: (L, V); of one row alone, there is only the maximum. A sum or mean is tried with relu's activations.

    >>> logits = np.array([[1, 2], [3, -4]])
    >>> found = {(pooling, activation): weights.tolist() for pooling, activation, weights in weights_of(logits)}
    >>> found["max", "relu"], found["first", "relu"], found["mean", "relu"]
    ([3.0, 2.0], [1.0, 2.0], [2.0, 1.0])
    """
    pooled = {"max": logits.max(axis=0)}
    if len(logits) > 1:
        pooled |= {pooling: logits[position] for pooling, position in _POSITIONS.items()}
    for pooling, row in pooled.items():
        for activation, activate in ACTIVATIONS.items():
            yield pooling, activation, activate(row.astype(np.float32))
    if len(logits) == 1:
        return
    for activation in LOGARITHMS:
        total = np.zeros(logits.shape[1], dtype=np.float32)
        for row in logits:
            positive = np.flatnonzero(row > 0)
            total[positive] += ACTIVATIONS[activation](row[positive].astype(np.float32))
        yield "sum", activation, total
        yield "mean", activation, total / np.float32(len(logits))


def logits_of(weights: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
    """The logits of weights by an activation, (1, V); 0 for a weight of 0, whose logit is 0 or less.

    >>> logits_of(np.log1p(np.array([3.0, 0.0], np.float32)), "log1p_relu").tolist()
    [[3.0, 0.0]]
    """
    for _ in range(LOGARITHMS[activation]):
        weights = np.expm1(weights)
    return weights[None]


def _texts(role: RoleName) -> str:
    return "documents" if role == "doc" else "queries"
