"""Expander: texts in, token weights out. Wires the other rooms together and holds no numerics of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike

from spladerunner.batching import available_cores, run_in_order
from spladerunner.bundle import ROLES, Bundle, RoleName
from spladerunner.errors import IntegrityError, ModelFilesError
from spladerunner.explanation import Explanation, SharedToken
from spladerunner.pooling import ACTIVATIONS, max_pool, sparsify
from spladerunner.registry import EMBEDDED, locate
from spladerunner.session import CPU, Session, check_providers
from spladerunner.tokenizer import TokenBatch, Tokenizer
from spladerunner.vector import SparseVector

_EMPTY = SparseVector((), ())


class Expander:
    """Turns documents and queries into weighted tokens with a SPLADE model.

    model: the folder of a bundle or of an ONNX model, or a name that list_models() knows; the embedded pair unless
        given. Nothing but the disk is touched.
    max_length: the most tokens read of a text, special ones included; for both roles, or as {"doc": 256, "query": 32}.
        Unless given, what the model's manifest says.
    threads: how many texts run side by side, one thread each. Unless given, the cores that this process may use.
    providers: onnxruntime's execution providers, best first. Unless given, the CPU.
    batch_tokens: how many tokens run together at most, summed over the texts that run side by side; a longer text
        runs alone. This bounds memory: a running text holds its tokens × the vocabulary's size × 4 bytes. Unless
        given, enough for twice `threads` texts of full length.

    The same text gives the same vector, bit for bit, alone or in any list, in any order, and from several threads
    that share one Expander. Each role's graph is opened when it is first needed.

    Raises UnknownModelError, ModelFilesError or IntegrityError where the model cannot be had whole, ProviderError
    where a provider cannot, ValueError where a number is out of range.
    """

    def __init__(
        self,
        model: str | PathLike[str] = EMBEDDED,
        max_length: int | Mapping[RoleName, int] | None = None,
        *,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        self._providers = (CPU,) if providers is None else tuple(providers)
        check_providers(self._providers)
        self._bundle = Bundle.open(locate(model))
        self._tokenizer = Tokenizer(self._bundle.tokenizer)
        self._check_vocabulary()
        self._max_length = self._lengths(max_length)
        self._threads = available_cores() if threads is None else _at_least(1, "threads", threads)
        if batch_tokens is None:
            batch_tokens = 2 * self._threads * max(self._max_length.values())
        self._batch_tokens = _at_least(1, "batch_tokens", batch_tokens)
        self._sessions: dict[str, Session] = {}
        self._opening = threading.Lock()

    def __repr__(self) -> str:
        return f"Expander({self._bundle.name!r}, max_length={dict(self._max_length)}, threads={self._threads})"

    def expand(self, texts: str | Iterable[str]) -> list[dict[str, float]]:
        """Documents as {token: weight}, heaviest first; one for each text, and a lone text counts as a list of one."""
        return [self._tokenizer.vocabulary.weights(vector) for vector in self.encode(texts, role="doc")]

    def expand_query(self, texts: str | Iterable[str]) -> list[dict[str, float]]:
        """Queries as {token: weight}, heaviest first, with the query model."""
        return [self._tokenizer.vocabulary.weights(vector) for vector in self.encode(texts, role="query")]

    def encode(self, texts: str | Iterable[str], *, role: RoleName = "doc") -> list[SparseVector]:
        """A SparseVector for each text. An empty text, or one without a single token, gives an empty vector.

        Raises TypeError, with the position, where a text is not a str.
        """
        return list(self.stream([texts] if isinstance(texts, str) else _as_list(texts), role=role))

    def stream(self, texts: Iterable[str], *, role: RoleName = "doc") -> Iterator[SparseVector]:
        """Like encode, for any iterable: texts are taken as they are needed, vectors come in the texts' order."""
        if role not in ROLES:
            raise ValueError(f"role={role!r} is neither 'doc' nor 'query'")
        if isinstance(texts, str):
            texts = [texts]
        threads = min(self._threads, len(texts)) if isinstance(texts, Sequence) else self._threads
        max_length = self._max_length[role]
        batches = (self._tokenizer.encode(text, max_length) for text in _checked(texts))
        return run_in_order(
            batches,
            lambda batch: self._vector(batch, role),
            threads=max(threads, 1),
            batch_tokens=self._batch_tokens,
        )

    def explain(self, query: str, document: str) -> Explanation:
        """Which tokens a query and a document share, with both weights and their product, largest first."""
        (query_vector,) = self.encode(query, role="query")
        (document_vector,) = self.encode(document, role="doc")
        query_weights = self._tokenizer.vocabulary.weights(query_vector)
        document_weights = self._tokenizer.vocabulary.weights(document_vector)
        shared = [
            SharedToken(token, weight, document_weights[token], weight * document_weights[token])
            for token, weight in query_weights.items()
            if token in document_weights
        ]
        shared.sort(key=lambda match: -match.product)
        return Explanation(query, document, tuple(shared))

    def own_tokens(self, text: str, *, role: RoleName = "doc") -> frozenset[str]:
        """The tokens that the text itself consists of, as far as the model reads it: all others are expansions."""
        batch = self._tokenizer.encode(text, self._max_length[role])
        return frozenset(self._tokenizer.vocabulary.tokens[token] for token in batch.ids[0])

    def _vector(self, batch: TokenBatch, role: RoleName) -> SparseVector:
        if batch.contents == 0:
            return _EMPTY
        session = self._session(role)
        output = session.run(batch)
        vocabulary = self._tokenizer.vocabulary
        pooled = output if session.pools_inside else max_pool(output, batch.mask)
        activation = None if session.pools_inside else ACTIVATIONS[self._bundle.activation]
        return sparsify(pooled[0, : len(vocabulary)], vocabulary.carries_weight, activation)

    def _session(self, role: RoleName) -> Session:
        graph = self._bundle.roles[role].graph
        key = str(graph)  # one graph may serve both roles
        with self._opening:
            if key not in self._sessions:
                session = Session(graph, self._providers)
                size = session.vocabulary_size
                if size is not None and size < len(self._tokenizer.vocabulary):
                    raise ModelFilesError(
                        f"{graph} weighs {size} tokens, but {self._bundle.tokenizer} has "
                        f"{len(self._tokenizer.vocabulary)}: they are not of one model. Fetch or export it again."
                    )
                self._sessions[key] = session
            return self._sessions[key]

    def _check_vocabulary(self) -> None:
        vocabulary = self._tokenizer.vocabulary
        expected = self._bundle.vocabulary_sha256
        if expected is not None and (found := vocabulary.sha256()) != expected:
            raise IntegrityError(
                f"{self._bundle.tokenizer} has a vocabulary of {len(vocabulary)} tokens with SHA-256 {found}, but the "
                f"manifest says {self._bundle.vocabulary_size} and {expected}. Fetch or export the bundle again."
            )

    def _lengths(self, max_length: int | Mapping[RoleName, int] | None) -> dict[RoleName, int]:
        lengths = {role: self._bundle.roles[role].max_length for role in ROLES}
        if max_length is None:
            return lengths
        given = max_length if isinstance(max_length, Mapping) else dict.fromkeys(ROLES, max_length)
        for role, length in given.items():
            if role not in lengths:
                raise ValueError(f"max_length has the role {role!r}, which is neither 'doc' nor 'query'")
            lengths[role] = _at_least(self._tokenizer.special_tokens_added + 1, "max_length", length)
        return lengths


def _at_least(lowest: int, name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value < lowest:
        raise ValueError(f"{name}={value} is too small: it must be at least {lowest}")
    return value


def _as_list(texts: Iterable[str]) -> list[str]:
    if texts is None or isinstance(texts, bytes | bytearray | Mapping) or not isinstance(texts, Iterable):
        raise TypeError(f"texts must be a str or an iterable of str, not {type(texts).__name__}: {texts!r:.60}")
    return list(texts)


def _checked(texts: Iterable[str]) -> Iterator[str]:
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{position}] must be a str, not {type(text).__name__}: {text!r:.60}")
        yield text
