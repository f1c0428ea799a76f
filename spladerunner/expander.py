"""Expander: texts in, token weights out. Wires the other rooms together and holds no numerics of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from os import PathLike

from spladerunner.errors import IntegrityError, ModelFilesError
from spladerunner.explanation import Explanation, SharedToken
from spladerunner.inference.cpu_count import available_cores
from spladerunner.inference.encoder import Encoder, GraphEncoder, TokenWeightsEncoder
from spladerunner.inference.scheduler import run_in_order
from spladerunner.inference.session import CPU, Session, check_providers
from spladerunner.inference.tokenizer import Tokenizer
from spladerunner.model.background import BackgroundCall
from spladerunner.model.bundle import TOKENIZER, Bundle
from spladerunner.model.hub import fetch
from spladerunner.model.integrity import digest_of_text
from spladerunner.model.manifest import ROLES, GraphRole, Role, RoleName, TokenWeightsRole
from spladerunner.model.registry import EMBEDDED
from spladerunner.vector import SparseVector
from spladerunner.vocabulary import Vocabulary


class Expander:
    """Turns documents and queries into weighted tokens with a SPLADE model.

    model: a folder with a bundle or an ONNX model, a name that list_models() knows, or a repository on the Hub that
        holds either; the embedded pair unless given. What comes from the Hub is downloaded once, into its own cache.
    max_length: the most tokens read of a text, special ones included; for both roles, or as {"doc": 256, "query": 32}.
        Unless given, what the model's manifest says.
    threads: how many texts run side by side, one thread each. Unless given, the cores that this process
        may use, by its affinity and its CPU quota.
    providers: onnxruntime's execution providers, best first. Unless given, the CPU.
    batch_tokens: how many tokens of one call are under way at most, summed over the texts that run side by side; a
        longer text runs alone. This bounds memory: a running text holds its tokens × the vocabulary's size × 4 bytes.
        Unless given, enough for twice `threads` texts of full length.
    revision: the branch, tag or commit of a repository on the Hub.

    The same text gives the same vector, bit for bit, alone or in any list, in any order, and from several threads
    that share one Expander. Each role's graph is opened, and compared with its manifest, when it is first needed.

    Raises UnknownModelError, DownloadError, ModelFilesError or IntegrityError where the model cannot be had whole,
    ProviderError where a provider cannot, ValueError where a number is out of range.
    """

    def __init__(
        self,
        model: str | PathLike[str] = EMBEDDED,
        max_length: int | Mapping[RoleName, int] | None = None,
        *,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        batch_tokens: int | None = None,
        revision: str | None = None,
    ) -> None:
        self._providers = (CPU,) if providers is None else tuple(providers)
        check_providers(self._providers)
        self._bundle = Bundle.open(fetch(model, revision=revision))
        self._tokenizer = _read_tokenizer(self._bundle)
        self._max_length = self._lengths(max_length)
        self._threads = available_cores() if threads is None else _at_least(1, "threads", threads)
        if batch_tokens is None:
            batch_tokens = 2 * self._threads * max(self._max_length.values())
        self._batch_tokens = _at_least(1, "batch_tokens", batch_tokens)
        self._encoders: dict[Role, Encoder] = {}
        self._opening = threading.Lock()

    def __repr__(self) -> str:
        return f"Expander({self._bundle.name!r}, max_length={dict(self._max_length)}, threads={self._threads})"

    @property
    def name(self) -> str:
        """The model's name, as its manifest or its folder says."""
        return self._bundle.name

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens that the vectors' indices stand for."""
        return self._tokenizer.vocabulary

    @property
    def fingerprint(self) -> str:
        """SHA-256, as hex, over what the vectors depend on: the model's files, the lengths read, the providers."""
        parts = [self._bundle.fingerprint(), dict(self._max_length), self._providers]
        return digest_of_text(json.dumps(parts, sort_keys=True))

    def expand(self, texts: str | Iterable[str]) -> list[dict[str, float]]:
        """Documents as {token: weight}, heaviest first; one for each text, and a lone text counts as a list of one."""
        return [self.vocabulary.weights(vector) for vector in self.encode(texts, role="doc")]

    def expand_query(self, texts: str | Iterable[str]) -> list[dict[str, float]]:
        """Queries as {token: weight}, heaviest first, with the query model."""
        return [self.vocabulary.weights(vector) for vector in self.encode(texts, role="query")]

    def encode(self, texts: str | Iterable[str], *, role: RoleName = "doc") -> list[SparseVector]:
        """A SparseVector for each text. An empty text, or one without a single token, gives an empty vector.

        Raises TypeError, with the position, where a text is not a str.
        """
        return list(self.stream(list(_iterable(texts)), role=role))

    def stream(self, texts: Iterable[str], *, role: RoleName = "doc") -> Iterator[SparseVector]:
        """Like encode, for any iterable: vectors come in the texts' order, as they and those before are done.

        Texts are taken ahead as far as batch_tokens allows, and no further.
        """
        _check_role(role)
        texts = _iterable(texts)
        threads = min(self._threads, len(texts)) if isinstance(texts, Sequence) else self._threads
        max_length = self._max_length[role]
        batches = (self._tokenizer.encode(text, max_length) for text in _checked(texts))
        return run_in_order(
            batches,
            self._encoder(role),
            threads=max(threads, 1),
            batch_tokens=self._batch_tokens,
        )

    def explain(self, query: str, document: str) -> Explanation:
        """Which tokens a query and a document share, with both weights and their product, largest first.

        A notebook shows it as a page, with the document's words weighted in place.
        """
        (query_vector,) = self.encode(_lone("query", query), role="query")
        (document_vector,) = self.encode(_lone("document", document), role="doc")
        query_weights = self.vocabulary.weights(query_vector)
        document_weights = self.vocabulary.weights(document_vector)
        shared = [
            SharedToken(token, weight, document_weights[token], weight * document_weights[token])
            for token, weight in query_weights.items()
            if token in document_weights
        ]
        shared.sort(key=lambda match: -match.product)
        spans, read = self._tokenizer.spans(document, self._max_length["doc"])
        return Explanation(query, document, tuple(shared), query_weights, document_weights, spans, read)

    def own_tokens(self, text: str, *, role: RoleName = "doc") -> frozenset[str]:
        """The tokens that the text itself consists of, as far as the model reads it: all others are expansions."""
        _check_role(role)
        batch = self._tokenizer.encode(_lone("text", text), self._max_length[role])
        vocabulary = self.vocabulary
        return frozenset(vocabulary.tokens[token] for token in batch.ids[0] if vocabulary.carries_weight[token])

    def _encoder(self, name: RoleName) -> Encoder:
        role = self._bundle.roles[name]
        with self._opening:
            if role not in self._encoders:  # one role may serve both names
                self._encoders[role] = self._open(role)
            return self._encoders[role]

    def _open(self, role: Role) -> Encoder:
        if isinstance(role, TokenWeightsRole):
            self._bundle.check(role.token_weights)
            return TokenWeightsEncoder(self._bundle.path(role.token_weights), self.vocabulary)
        check = BackgroundCall(partial(self._bundle.check, role.graph, *role.external_data))
        try:
            session = Session(self._bundle.path(role.graph), self._providers)
        finally:
            check.result()  # says more of a damaged file than whatever it did to the session
        return GraphEncoder(session, self.vocabulary, role.pooling, role.activation)

    def _lengths(self, max_length: int | Mapping[RoleName, int] | None) -> dict[RoleName, int]:
        lengths = {name: role.max_length for name, role in self._bundle.roles.items()}
        if max_length is None:
            return lengths
        least = self._tokenizer.special_tokens_added + 1
        given = max_length if isinstance(max_length, Mapping) else dict.fromkeys(ROLES, max_length)
        for name, length in given.items():
            _check_role(name)
            lengths[name] = _at_least(least, "max_length", length)
            role = self._bundle.roles[name]
            positions = role.positions if isinstance(role, GraphRole) else None
            if positions is not None and length > positions:
                raise ValueError(f"max_length={length} is too large: the {name} model has {positions} positions")
        return lengths


def _read_tokenizer(bundle: Bundle) -> Tokenizer:
    """The bundle's tokenizer. Raises IntegrityError or ModelFilesError where it is not what the manifest says."""
    bundle.check(TOKENIZER)
    tokenizer = Tokenizer(bundle.tokenizer)
    found = len(tokenizer.vocabulary), tokenizer.vocabulary.sha256
    expected = bundle.vocabulary
    if expected is not None and found != (expected.size, expected.sha256):
        raise IntegrityError(
            f"{bundle.tokenizer} has a vocabulary of {found[0]} tokens with SHA-256 {found[1]}, but the "
            f"manifest says {expected.size} and {expected.sha256}. Fetch or export the bundle again."
        )
    for name, role in bundle.roles.items():
        if role.max_length <= tokenizer.special_tokens_added:
            raise ModelFilesError(
                f"{bundle.folder} reads {role.max_length} tokens of a text as {name}, where special tokens alone need "
                f"{tokenizer.special_tokens_added}. Fetch or export it again."
            )
    return tokenizer


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise ValueError(f"role={role!r} is neither 'doc' nor 'query'")


def _at_least(lowest: int, name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value < lowest:
        raise ValueError(f"{name}={value} is too small: it must be at least {lowest}")
    return value


def _iterable(texts: str | Iterable[str]) -> Iterable[str]:
    """The texts, a lone one in a list. Names the type alone of what is none: its content may be huge, or secret."""
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, bytes | bytearray | Mapping) or not isinstance(texts, Iterable):
        raise TypeError(f"texts must be a str or an iterable of str, not {type(texts).__name__}")
    return texts


def _checked(texts: Iterable[str]) -> Iterator[str]:
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{position}] must be a str, not {type(text).__name__}")
        yield text


def _lone(name: str, text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, not {type(text).__name__}")
    return text
