"""Compares vectors that another system made with the model's, and looks for the mistake that explains a difference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

import numpy as np

from spladerunner.expander import Expander
from spladerunner.inference.encoder import Encoder, GraphEncoder, LexicalEncoder
from spladerunner.inference.tokenizer import TokenizedText
from spladerunner.mistakes import LOGARITHMS, Reading, Recipe, logits_of, weights_of
from spladerunner.model.manifest import ROLES, GraphRole, RoleName
from spladerunner.vector import SparseVector

if TYPE_CHECKING:  # numpy.typing is slow to import
    from numpy.typing import NDArray

LEAST_COSINE = 0.99
"""Of each text with the model's vector, for vectors that agree: what an export in int8 must reach."""

LARGEST_RESIDUAL = 0.15
"""Of vectors that agree, or that a mistake explains: the length of the difference, as a share of the vectors' length.
Two vectors of equal length with a cosine of 0.99 differ by 0.14."""

_WORTH = 0.01
"""The residual that each sentence of an explanation must save."""

_EXAMINED = 16
"""Texts that are compared with each mistake, those that differ most."""

_LENGTHS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_SHOWN = 3


@dataclass(frozen=True)
class Comparison:
    """Differences of another system's vectors from the model's.

    texts: their number. agrees: every text has a cosine of at least 0.99, and nothing below was found.
    mean_cosine, worst_cosine, worst_text: over the texts; special tokens are left out.
    weights, own_weights: in a vector of the other system and of the model, on average.
    missing: {token: weight} that the model has and the other system lacks, the mean over all texts, heaviest first.
    extra: the same of tokens that the other system alone has, with its weights.
    findings: what explains the difference, in sentences; empty if the vectors agree, or nothing explains it.
    residual: the difference that is left with these findings, as a share of the vectors' length.

    >>> from spladerunner import Expander, compare
    >>> expander = Expander()
    >>> weights = expander.expand("atomic bomb")[0]
    >>> compare(expander, ["atomic bomb"], [{token: 2 * weight for token, weight in weights.items()}]).findings
    ("Each weight is 2 times the model's.",)
    """

    texts: int
    agrees: bool
    mean_cosine: float
    worst_cosine: float
    worst_text: str
    weights: float
    own_weights: float
    missing: Mapping[str, float] = field(repr=False)
    extra: Mapping[str, float] = field(repr=False)
    findings: tuple[str, ...]
    residual: float


class _Pair(NamedTuple):
    """A text, its vector by the other system without special tokens, and by the model: (V,) float32 each."""

    text: str
    theirs: NDArray[np.float32]
    own: NDArray[np.float32]


def compare(
    expander: Expander,
    texts: Sequence[str],
    vectors: Sequence[SparseVector | Mapping[str, float]],
    *,
    role: RoleName = "doc",
) -> Comparison:
    """Compares vectors of another system with those of the model, and looks for what explains the difference.

    vectors: one for each text, as {token: weight} or by the model's indices. Tokens may have the tokenizer's own
        spelling, or Elasticsearch's.
    Known differences are a factor, another pooling (one position alone, sum, mean), another activation (softplus, a
    logarithm more or less), another length, the model of the other role, light weights left out, special tokens left
    in, texts that are expanded where the model keeps their own tokens, and combinations of these. A graph that pools
    inside shows no single positions, and no logits below 0; one that returns only the largest logits, as those of
    narrow models, shows no single positions.
    Raises ValueError if there are no texts, not one vector for each, or a weight is not finite.

    >>> expander = Expander()
    >>> compare(expander, ["atomic bomb"], expander.encode("atomic bomb")).agrees
    True
    """
    if not texts or len(texts) != len(vectors):
        raise ValueError(f"there are {len(vectors)} vectors for {len(texts)} texts; one for each is needed, and a text")
    given = _Given(expander, role, vectors)
    pairs = [
        _Pair(text, theirs, _dense(own, len(expander.vocabulary)))
        for text, theirs, own in zip(texts, given.dense, expander.encode(texts, role=role), strict=True)
    ]
    cosines = [_cosine(pair.theirs, pair.own) for pair in pairs]
    worst = int(np.argmin(cosines))
    best = _explanation(expander, role, pairs)
    explained = best.residual <= LARGEST_RESIDUAL
    findings = (*given.findings, *(best.sentences if explained else ()))
    tokens = expander.vocabulary.tokens
    return Comparison(
        texts=len(texts),
        agrees=explained and not findings and cosines[worst] >= LEAST_COSINE,
        mean_cosine=float(np.mean(cosines)),
        worst_cosine=cosines[worst],
        worst_text=texts[worst],
        weights=float(np.mean([np.count_nonzero(pair.theirs) for pair in pairs])),
        own_weights=float(np.mean([np.count_nonzero(pair.own) for pair in pairs])),
        missing=_mean_weights([(pair.own, pair.theirs) for pair in pairs], tokens),
        extra=_mean_weights([(pair.theirs, pair.own) for pair in pairs], tokens),
        findings=findings,
        residual=best.residual,
    )


class _Given:
    """The vectors of the other system, (V,) float32 each, and what can be seen in them alone."""

    def __init__(
        self, expander: Expander, role: RoleName, vectors: Sequence[SparseVector | Mapping[str, float]]
    ) -> None:
        self._vocabulary = expander.vocabulary
        self._is_known = ~self._vocabulary.carries_weight
        self._is_known[_entries(expander, role)] = True
        self._positions = expander._tokenizer.positions() | {
            token: position for position, token in enumerate(self._vocabulary.tokens) if token
        }
        self._unknown: dict[str, None] = {}
        self._special: dict[str, None] = {}
        self.dense = [self._read(vector) for vector in vectors]

    @property
    def findings(self) -> list[str]:
        """Tokens that are not in the vocabulary, and special tokens, a sentence for each."""
        found = []
        if self._unknown:
            found.append(f"Tokens are not in the model's vocabulary: {_examples(self._unknown)}.")
        if self._special:
            found.append(f"Special tokens are left in: {_examples(self._special)}.")
        return found

    def _read(self, vector: SparseVector | Mapping[str, float]) -> NDArray[np.float32]:
        dense = np.zeros(len(self._vocabulary), dtype=np.float32)
        for name, weight in (vector.as_dict() if isinstance(vector, SparseVector) else vector).items():
            position = name if isinstance(name, int) else self._position(name)
            if not np.isfinite(weight):
                raise ValueError(f"the weight of {name!r} is {weight}, which is not finite")
            if position is None or position >= len(dense) or not self._is_known[position]:
                self._unknown[self._name(name)] = None
            elif self._vocabulary.carries_weight[position]:
                dense[position] = weight
            elif weight:
                self._special[self._name(name)] = None
        return dense

    def _name(self, given: str | int) -> str:
        """The token at an index, if there is one, or the token itself."""
        if isinstance(given, int) and given < len(self._vocabulary):
            return self._vocabulary.tokens[given] or str(given)
        return str(given)

    def _position(self, token: str) -> int | None:
        found = self._positions.get(token)
        return self._positions.get(unquote(token)) if found is None else found


class _Explanation(NamedTuple):
    """sentences: the differences from the model's own recipe. residual: what they leave unexplained."""

    sentences: tuple[str, ...]
    residual: float

    @property
    def cost(self) -> float:
        return self.residual + _WORTH * len(self.sentences)


@dataclass
class _Sums:
    """Dot products over all texts: of their vectors, of theirs with a recipe's, and of the recipe's."""

    theirs: float = 0.0
    both: float = 0.0
    recipe: float = 0.0

    def add(self, theirs: NDArray[np.float32], recipe: NDArray[np.float32]) -> None:
        self.theirs += float(np.dot(theirs, theirs))
        self.both += float(np.dot(theirs, recipe))
        self.recipe += float(np.dot(recipe, recipe))

    @property
    def factor(self) -> float:
        """The factor of the recipe's weights that leaves the least residual."""
        return self.both / self.recipe if self.recipe else 0.0

    def residual(self, factor: float) -> float:
        """The length of the difference, as a share of the longer of the two."""
        longer = max(self.theirs, factor**2 * self.recipe)
        difference = self.theirs - 2 * factor * self.both + factor**2 * self.recipe
        return float(np.sqrt(max(difference, 0.0) / longer)) if longer else 0.0


def _explanation(expander: Expander, role: RoleName, pairs: Sequence[_Pair]) -> _Explanation:
    """The explanation that costs least: the model's own vectors, or those that differ most by any recipe."""
    own = _Sums()
    for pair in pairs:
        own.add(pair.theirs, pair.own)
    agreement = _Explanation((), own.residual(1))
    if agreement.residual <= _WORTH and min(_cosine(pair.theirs, pair.own) for pair in pairs) >= LEAST_COSINE:
        return agreement
    examined = sorted(pairs, key=lambda pair: _difference(pair.theirs, pair.own), reverse=True)[:_EXAMINED]
    return min(_explanations(expander, role, examined), key=lambda each: each.cost, default=agreement)


def _explanations(expander: Expander, role: RoleName, pairs: Sequence[_Pair]) -> Iterator[_Explanation]:
    is_lexical = isinstance(expander._encoder(role), LexicalEncoder)
    own = Recipe(Reading(role, expander.max_length[role]), *_formula(expander, role), is_lexical)
    sums: dict[tuple[Recipe, bool], _Sums] = defaultdict(_Sums)
    for reading in _readings(expander, own.reading, [pair.text for pair in pairs]):
        for pair in pairs:
            for recipe, weights, known in _recipes(expander, reading, pair.text):
                theirs = pair.theirs[known]
                sums[recipe, False].add(theirs, weights)
                sums[recipe, True].add(theirs, _heaviest(weights, int(np.count_nonzero(theirs))))
    for (recipe, is_pruned), found in sums.items():
        if is_pruned and found.recipe == sums[recipe, False].recipe:
            continue
        sentences = recipe.departures(own)
        if is_pruned:
            sentences.append("Only the heaviest weights of each text are kept.")
        yield _Explanation(tuple(sentences), found.residual(1))
        if found.factor > 0:
            factor = f"Each weight is {found.factor:.3g} times the model's."
            yield _Explanation((*sentences, factor), found.residual(found.factor))


def _recipes(
    expander: Expander, reading: Reading, text: str
) -> Iterator[tuple[Recipe, NDArray[np.float32], NDArray[np.int32]]]:
    """Weights of a text by each recipe, at the positions where they are known: (recipe, (n,) float32, (n,))."""
    encoder = _expanding(expander, reading.role)
    tokens = _tokens(expander, reading, text)
    if not tokens.content_tokens:
        return
    entries = _entries(expander, reading.role)
    carries_weight = positive = expander.vocabulary.carries_weight[entries]
    logits = encoder.logits(tokens) if isinstance(encoder, GraphEncoder) else None
    if logits is None:
        _, activation = _formula(expander, reading.role)
        logits = logits_of(_dense(encoder(tokens), len(expander.vocabulary))[entries], activation)
        positive = carries_weight & (logits[0] > 0)
    for pooling, activation, weights in weights_of(logits):
        known = carries_weight if activation in LOGARITHMS else positive  # a softplus has weights below 0 too
        yield Recipe(reading, pooling, activation), weights[known], entries[known]
        if encoder is not expander._encoder(reading.role):
            kept = np.where(np.isin(entries, tokens.ids), weights, np.float32(0))
            yield Recipe(reading, pooling, activation, lexical=True), kept[known], entries[known]


def _expanding(expander: Expander, role: RoleName) -> Encoder:
    """The encoder of a role, of a lexical one that before it drops tokens."""
    encoder = expander._encoder(role)
    return encoder.encoder if isinstance(encoder, LexicalEncoder) else encoder


def _entries(expander: Expander, role: RoleName) -> NDArray[np.int32]:
    """The positions in the vocabulary that the model of a role weighs."""
    encoder = _expanding(expander, role)
    if isinstance(encoder, GraphEncoder):
        return encoder.entries
    return np.arange(len(expander.vocabulary), dtype=np.int32)


def _readings(expander: Expander, own: Reading, texts: Sequence[str]) -> Iterator[Reading]:
    """The model's own reading, those of other lengths that differ in a text, and that of the other role's model."""
    yield own
    role = expander._bundle.roles[own.role]
    positions = (role.positions or own.max_length) if isinstance(role, GraphRole) else own.max_length
    seen = {tuple(_tokens(expander, own, text).tokens for text in texts)}
    for length in sorted({*_LENGTHS, positions}):
        if length <= positions:
            reading = Reading(own.role, length)
            counts = tuple(_tokens(expander, reading, text).tokens for text in texts)
            if counts not in seen:
                seen.add(counts)
                yield reading
    (other,) = set(ROLES) - {own.role}
    if _expanding(expander, other) is not _expanding(expander, own.role):
        yield Reading(other, expander.max_length[other])


def _tokens(expander: Expander, reading: Reading, text: str) -> TokenizedText:
    return expander._tokenizer.encode(expander._prompted(text, reading.role), reading.max_length)


def _formula(expander: Expander, role: RoleName) -> tuple[str, str]:
    """Pooling and activation of a role, as far as its logits show them: of one row, the pooling is the maximum."""
    served = expander._bundle.roles[role]
    if not isinstance(served, GraphRole):
        return "max", "relu"
    encoder = _expanding(expander, role)
    if isinstance(encoder, GraphEncoder) and not encoder.pools_inside:
        return served.pooling, served.activation
    return "max", served.activation


def _heaviest(weights: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The weights with all but the heaviest set to 0; as they are if nothing is to be kept."""
    if not 0 < count < np.count_nonzero(weights):
        return weights
    least = np.partition(weights, -count)[-count]
    return np.where(weights >= least, weights, np.float32(0))


def _dense(vector: SparseVector, size: int) -> NDArray[np.float32]:
    dense = np.zeros(size, dtype=np.float32)
    dense[vector.indices] = vector.values
    return dense


def _cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Cosine of the angle; 1 for two empty vectors, 0 if only one is empty."""
    lengths = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    if not lengths:
        return float(not first.any() and not second.any())
    return float(np.dot(first.astype(np.float64), second.astype(np.float64))) / lengths


def _difference(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    sums = _Sums()
    sums.add(first, second)
    return sums.residual(1)


def _mean_weights(
    pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]], tokens: Sequence[str]
) -> dict[str, float]:
    """The weights of the first of each pair that the second lacks, the mean over all pairs, heaviest first."""
    total = sum(np.where(second == 0, first, np.float32(0)).astype(np.float64) for first, second in pairs)
    mean = np.asarray(total) / len(pairs)
    order = [at for at in np.argsort(-mean, kind="stable") if mean[at] > 0]
    return {tokens[at]: float(mean[at]) for at in order}


def _examples(names: Mapping[str, None]) -> str:
    shown = list(names)[:_SHOWN]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
