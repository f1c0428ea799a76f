"""Expander: texts in, token weights out. Connects the modules of model and inference."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from spladerunner.errors import IntegrityError, ModelFilesError
from spladerunner.inference.admission import Admission
from spladerunner.inference.arena import products_saturate
from spladerunner.inference.cpu_count import available_cores
from spladerunner.inference.encoder import GRAPH_ENCODERS, Encoder, LexicalEncoder, TokenWeightsEncoder
from spladerunner.inference.fork import renew_in_child
from spladerunner.inference.pooling import ACTIVATIONS, POOLINGS
from spladerunner.inference.providers import CPU, Provider, check_providers, check_target, device_of
from spladerunner.inference.scheduler import run_in_order
from spladerunner.inference.session import Session
from spladerunner.inference.tokenizer import Span, TokenizedText, Tokenizer, Window
from spladerunner.inference.worker_threads import WorkerThreads
from spladerunner.log import debug
from spladerunner.model.bundle import Bundle
from spladerunner.model.hub import find_folder
from spladerunner.model.integrity import BackgroundCall, digest_of_text
from spladerunner.model.manifest import QUERIES, ROLES, GraphRole, Role, RoleName, TokenWeightsRole, VocabularyRecord
from spladerunner.models import EMBEDDED
from spladerunner.vector import SparseVector, similarity
from spladerunner.vocabulary import Vocabulary

if TYPE_CHECKING:  # numpy.typing is slow to import
    import numpy as np
    from numpy.typing import NDArray

    from spladerunner.explanation import Explanation
    from spladerunner.model.bare_folder import Interpretation
    from spladerunner.model.graph import Content
    from spladerunner.passages import Passage, TokenCount

Tokenized = TypeVar("Tokenized")

CHARACTERS_TOKENIZED = 1 << 17
"""Limit of the characters that are tokenized at the same time, of all calls; a longer text is tokenized alone. A
character takes up to half a kilobyte."""

AWAITED_ON_GPU = 256
"""Texts of an awaited call that wait for a GPU at the same time: they run in batches."""

MOST_TOKENS = 1 << 20
"""Of a text: more than any model reads."""


class Expander:
    """Turns documents and queries into weighted tokens with a SPLADE model.

    model: a folder with a bundle or an ONNX model, a name from list_models(), or a repository on the Hub with either.
        The embedded pair by default. A repository is downloaded once, into the cache of huggingface_hub.
    max_length: tokens read of a text at most, special tokens included; one number, or {"doc": 256, "query": 32}.
        By default as the model's manifest says.
    threads: texts of all calls that run at the same time, one thread each. By default the cores that this process may
        use, by its affinity and its CPU quota.
    providers: execution providers of onnxruntime, in order of preference: names, or names with options such as
        ("CUDAExecutionProvider", {"device_id": 1}). By default the CPU. On a GPU, texts run in padded batches.
    tokens_in_flight: limit of the tokens that run at the same time, of all calls; a longer text runs alone. It bounds
        memory: a running text takes its tokens × vocabulary size × 4 bytes at most. By default twice `threads` texts of
        full length, and on a GPU four full batches.
    revision: branch, tag or commit of a repository on the Hub.
    pooling, activation, query: how to run a graph without a bundle, where the files beside it do not say: "max" or
        "sum"; "log1p_relu", "log1p_log1p_relu" or "relu"; and what serves queries, "model" for the same graph, "idf"
        for the weights in idf.json, or "ones" for weight 1 for each token. What stays open is an error.
    batch_tokens: the former name of tokens_in_flight.

    On CPUs, the same text gives the same vector, bit for bit: alone or in any list, in any order, from any thread.
    Threads may share an Expander. The vocabulary, and the graph of a role, are read and compared with the manifest when
    first used.

    Raises UnknownModelError, DownloadError, ModelFilesError or IntegrityError if the model cannot be loaded,
    ProviderError if a provider is not available, ValueError if a number is out of range, and TypeError if both
    tokens_in_flight and batch_tokens are given.

    >>> expander = Expander(max_length={"query": 32})
    >>> expander
    Expander('tiny-en', max_length={'doc': 256, 'query': 32}, threads=...)
    >>> weights, = expander.expand("The Moon orbits the Earth")
    >>> list(weights)[:3]
    ['earth', 'moon', 'orbit']
    """

    def __init__(
        self,
        model: str | PathLike[str] = EMBEDDED,
        max_length: int | Mapping[RoleName, int] | None = None,
        *,
        threads: int | None = None,
        providers: Sequence[Provider] | None = None,
        tokens_in_flight: int | None = None,
        revision: str | None = None,
        pooling: str | None = None,
        activation: str | None = None,
        query: str | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        if tokens_in_flight is not None and batch_tokens is not None:
            raise TypeError("batch_tokens is the former name of tokens_in_flight: give tokens_in_flight only")
        self._arguments: dict[str, Any] = {
            "model": model if isinstance(model, str) else Path(model).absolute(),
            "max_length": dict(max_length) if isinstance(max_length, Mapping) else max_length,
            "threads": threads,
            "providers": None if providers is None else tuple(providers),
            "tokens_in_flight": batch_tokens if tokens_in_flight is None else tokens_in_flight,
            "revision": revision,
            "pooling": pooling,
            "activation": activation,
            "query": query,
        }
        self._providers = (CPU,) if providers is None else tuple(providers)
        check_providers(self._providers)
        self._on_gpu = device_of(self._providers) is not None
        interpretation = _interpretation(pooling, activation, query)
        self._bundle = Bundle.open(find_folder(model, revision=revision), interpretation)
        check_target(self._bundle.weight_type, self._providers, self._bundle.name)
        with BackgroundCall(products_saturate):  # the first session asks for it
            self._tokenizer = _read_tokenizer(self._bundle)
        self._max_length = self._lengths(max_length)
        self._threads = available_cores() if threads is None else _at_least(1, "threads", threads)
        if batch_tokens is not None:
            self._tokens_in_flight = _at_least(1, "batch_tokens", batch_tokens)
        elif tokens_in_flight is not None:
            self._tokens_in_flight = _at_least(1, "tokens_in_flight", tokens_in_flight)
        elif self._on_gpu:
            from spladerunner.inference.batches import TOKENS_IN_FLIGHT  # CPUs start without

            self._tokens_in_flight = TOKENS_IN_FLIGHT
        else:
            self._tokens_in_flight = 2 * self._threads * max(self._max_length.values())
        self._vocabulary: Vocabulary | None = None
        self._encoders: dict[RoleName, Encoder] = {}
        self._renew_locks()
        renew_in_child(self)
        self._workers = WorkerThreads(2 * self._threads)  # some tokenize while others run
        self._tokenizing = Admission(self._threads, CHARACTERS_TOKENIZED, self._workers)
        self._running = Admission(self._threads, self._tokens_in_flight, self._workers)
        debug(
            __name__,
            "loaded %s from %s: max_length %s, %d threads, %d tokens in flight",
            self.name,
            self._bundle.folder,
            self._max_length,
            self._threads,
            self._tokens_in_flight,
        )

    def _renew_locks(self) -> None:
        """Replaces the lock in a child of fork: a thread that held it is gone. A graph half opened is opened again."""
        self._opening = threading.Lock()

    def __reduce__(self) -> tuple[partial[Expander], tuple[()]]:
        """Pickled as its arguments: the other process opens the model itself."""
        return partial(type(self), **self._arguments), ()

    def __repr__(self) -> str:
        return f"Expander({self._bundle.name!r}, max_length={dict(self._max_length)}, threads={self._threads})"

    @property
    def name(self) -> str:
        """The model's name, from its manifest or its folder.

        >>> Expander().name
        'tiny-en'
        """
        return self._bundle.name

    @property
    def max_length(self) -> dict[RoleName, int]:
        """The tokens read of a text at most, special tokens included, for each role.

        >>> Expander(max_length={"query": 32}).max_length
        {'doc': 256, 'query': 32}
        """
        return dict(self._max_length)

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens at the indices of the vectors.

        >>> expander = Expander()
        >>> vector, = expander.encode("atomic bomb")
        >>> expander.vocabulary.tokens[vector.top(1).indices[0]]
        'bomb'
        """
        return self._vocabulary or self._read_vocabulary()

    @property
    def fingerprint(self) -> str:
        """SHA-256, as hex, over all that vectors depend on: the model's files, the lengths, the providers.

        >>> Expander().fingerprint == Expander(max_length=128).fingerprint
        False
        """
        parts = [self._bundle.fingerprint(), dict(self._max_length), self._providers]
        return digest_of_text(json.dumps(parts, sort_keys=True))

    def expand(self, texts: str | Iterable[str]) -> list[dict[str, float]]:
        """Expands documents: {token: weight} for each, heaviest first. A single str counts as a list of one.

        >>> weights, = Expander().expand("atomic bomb")
        >>> "nuclear" in weights
        True
        """
        return [self.vocabulary.weights(vector) for vector in self.encode(texts, role="doc")]

    def expand_query(self, texts: str | Iterable[str]) -> list[dict[str, float]]:
        """Expands queries: {token: weight} for each, heaviest first, by the model for queries.

        >>> weights, = Expander().expand_query("who built the nuclear bomb")
        >>> "reactor" in weights
        True
        """
        return [self.vocabulary.weights(vector) for vector in self.encode(texts, role="query")]

    def encode(
        self,
        texts: str | Iterable[str],
        *,
        role: RoleName = "doc",
        overlap: int | None = None,
        show_progress_bar: bool = False,
    ) -> list[SparseVector]:
        """Encodes texts: a SparseVector for each, empty for a text without tokens.

        overlap: see stream. show_progress_bar: draws a bar of tqdm on standard error, or in a notebook.
        A non-string raises TypeError with its index.

        >>> expander = Expander()
        >>> query, = expander.encode("atomic bomb", role="query")
        >>> near, far = expander.encode(["nuclear reactors", "the cat sat on the mat"])
        >>> query.dot(near) > query.dot(far)
        True
        """
        texts = list(_iterable(texts))
        vectors = self.stream(texts, role=role, overlap=overlap)
        if show_progress_bar:
            from tqdm.auto import tqdm

            return list(tqdm(vectors, total=len(texts), unit=" texts"))
        return list(vectors)

    def encode_document(self, texts: str | Iterable[str], *, show_progress_bar: bool = False) -> list[SparseVector]:
        """Encodes documents, as encode does; the name in sentence-transformers.

        >>> vector, = Expander().encode_document("nuclear reactors")
        >>> len(vector) > 0
        True
        """
        return self.encode(texts, role="doc", show_progress_bar=show_progress_bar)

    def encode_query(self, texts: str | Iterable[str], *, show_progress_bar: bool = False) -> list[SparseVector]:
        """Encodes queries, by the model for queries, as encode does; the name in sentence-transformers.

        >>> expander = Expander()
        >>> expander.encode_query("atomic bomb") == expander.encode("atomic bomb", role="query")
        True
        """
        return self.encode(texts, role="query", show_progress_bar=show_progress_bar)

    @staticmethod
    def similarity(queries: Sequence[SparseVector], documents: Sequence[SparseVector]) -> NDArray[np.float64]:
        """The score of each document for each query, their dot product in float64: (queries, documents).

        >>> expander = Expander()
        >>> queries = expander.encode_query(["atomic bomb", "river bank"])
        >>> documents = expander.encode_document(["nuclear reactors", "where the trout are"])
        >>> expander.similarity(queries, documents).argmax(axis=1).tolist()
        [0, 1]
        """
        return similarity(queries, documents)

    def stream(
        self, texts: Iterable[str], *, role: RoleName = "doc", overlap: int | None = None
    ) -> Iterator[SparseVector]:
        """Encodes any iterable of texts lazily: yields their vectors in order, each when it is ready.

        Texts are taken in advance only within tokens_in_flight.

        overlap: reads all of a text that is longer than max_length, in windows of which neighbors share so many tokens;
        the weight of a token is its largest in any window. None reads the first max_length tokens.
        Raises ValueError if it is negative, or not smaller than a window.

        >>> sum(len(vector) > 0 for vector in Expander().stream(f"text {number}" for number in range(3)))
        3
        >>> beginning, whole = (Expander(max_length=4).encode("cats and bombs", overlap=n)[0] for n in (None, 0))
        >>> len(beginning) < len(whole)
        True
        """
        if overlap is not None:
            from spladerunner.passages import joined  # expansion starts without it

            passages = self.passages(texts, role=role, overlap=overlap)
            return (passage.vector for passage in joined(passages, len(self.vocabulary)))
        _check_role(role)
        texts = _iterable(texts)
        threads = min(self._threads, len(texts)) if isinstance(texts, Sequence) else self._threads
        tokenized = self._tokenize_each(texts, partial(self._tokenize, role=role))
        return self._stream(tokenized, role, self._threads if self._on_gpu else max(threads, 1))

    def passages(
        self, texts: str | Iterable[str], *, role: RoleName = "doc", overlap: int | None = 0
    ) -> Iterator[Passage]:
        """Encodes the windows of texts apart: yields a Passage for each window of each text, in order.

        overlap: tokens that neighboring windows share; None gives the first window of each text only. A text that fits
        max_length, even an empty one, has one window. The whole text is tokenized, so that passages know its tokens.
        A window has the vector that its tokens have alone. A prompt of the role is before the text, so in its first
        window, and its tokens count. Raises ValueError as stream does.

        >>> [passage.vector == Expander().encode("the cat")[0] for passage in Expander().passages("the cat")]
        [True]
        """
        from spladerunner.passages import Passage

        _check_role(role)
        if overlap is not None:
            size = self._max_length[role] - self._tokenizer.special_tokens_added
            if _at_least(0, "overlap", overlap) >= size:
                raise ValueError(f"overlap={overlap} is too large: a window has {size} tokens beside special ones")
        places: deque[tuple[int, int, int, int, int]] = deque()
        texts = _iterable(texts)

        def tokenize(text: str) -> Iterator[Window]:
            windows = partial(self._tokenizer.windows, self._prompted(text, role), self._max_length[role], overlap)
            return self._tokenizing.run(len(text), windows)

        def windows() -> Iterator[TokenizedText]:
            for position, found in enumerate(self._tokenize_each(texts, tokenize)):
                for number, window in enumerate(found):
                    places.append((position, number, window.start, window.end, window.tokens))
                    yield window.text

        def passages() -> Iterator[Passage]:
            for vector in self._stream(windows(), role, self._threads):
                yield Passage(*places.popleft(), vector)

        return passages()

    def count_tokens(self, texts: str | Iterable[str], *, role: RoleName = "doc") -> list[TokenCount]:
        """Counts the tokens of each text, and those of them that the model reads.

        Tokens of the role's prompt count, special tokens do not.

        >>> count, = Expander(max_length=4).count_tokens("the cat sat on the mat")
        >>> count, count.cut
        (TokenCount(total=6, read=2), True)
        """
        from spladerunner.passages import TokenCount

        _check_role(role)
        most = self._max_length[role] - self._tokenizer.special_tokens_added
        counts = []
        for text in _checked(_iterable(texts)):
            total = self._tokenizing.run(len(text), partial(self._tokenizer.count, self._prompted(text, role)))
            counts.append(TokenCount(total, min(total, most)))
        return counts

    async def aexpand(self, texts: str | Iterable[str]) -> list[dict[str, float]]:
        """Awaitable form of expand; see aencode.

        >>> import asyncio
        >>> weights, = asyncio.run(Expander().aexpand("atomic bomb"))
        >>> "nuclear" in weights
        True
        """
        return [self.vocabulary.weights(vector) for vector in await self.aencode(texts, role="doc")]

    async def aexpand_query(self, texts: str | Iterable[str]) -> list[dict[str, float]]:
        """Awaitable form of expand_query; see aencode.

        >>> import asyncio
        >>> weights, = asyncio.run(Expander().aexpand_query("who built the nuclear bomb"))
        >>> "reactor" in weights
        True
        """
        return [self.vocabulary.weights(vector) for vector in await self.aencode(texts, role="query")]

    async def aencode(self, texts: str | Iterable[str], *, role: RoleName = "doc") -> list[SparseVector]:
        """Awaitable form of encode, for event loops of asyncio: it does not block the loop, and can be cancelled.

        Its texts wait in one order with those of all other calls. Of a call that is cancelled, texts that wait are
        withdrawn; at most `threads` texts, or batches on a GPU, that run already end first.

        >>> import asyncio
        >>> expander = Expander()
        >>> async def score():
        ...     (query,), (document,) = await asyncio.gather(
        ...         expander.aencode("atomic bomb", role="query"), expander.aencode("nuclear reactors")
        ...     )
        ...     return query.dot(document)
        >>> asyncio.run(score()) > 0
        True
        """
        from spladerunner.inference.event_loop import Step, map_in_order, run_admitted

        _check_role(role)
        texts = list(_checked(_iterable(texts)))
        pool = self._workers.pool()  # kept for all texts of the call

        async def encode(text: str) -> SparseVector:
            def tokenize() -> Step[SparseVector]:
                encoder, tokenized = self._prepare(text, role)
                return Step(self._running, tokenized.tokens, partial(encoder, tokenized))

            return await run_admitted(Step(self._tokenizing, len(text), tokenize))

        async def encode_on_gpu(text: str) -> SparseVector:
            from spladerunner.inference.dynamic_batches import DynamicBatches  # CPUs start without

            prepare = partial(self._prepare, text, role)
            encoder, tokenized = await run_admitted(Step(self._tokenizing, len(text), prepare))
            if isinstance(encoder, DynamicBatches):
                return await encoder.encode(tokenized, self._max_length[role])
            return await run_admitted(Step(self._running, tokenized.tokens, partial(encoder, tokenized)))

        function, at_once = (encode_on_gpu, AWAITED_ON_GPU) if self._on_gpu else (encode, self._threads)
        try:
            return await map_in_order(function, texts, at_once=min(at_once, len(texts)))
        finally:
            del pool  # the traceback of an error must not keep it

    def explain(self, query: str, document: str) -> Explanation:
        """Explains a score: the tokens that a query and a document share, largest product of weights first.

        >>> explanation = Expander().explain("atomic bomb", "nuclear reactors")
        >>> explanation.shared[0].token
        'nuclear'
        """
        from spladerunner.explanation import Explanation, SharedToken  # expansion starts without it

        (query_vector,) = self.encode(_single("query", query), role="query")
        (document_vector,) = self.encode(_single("document", document), role="doc")
        query_weights = self.vocabulary.weights(query_vector)
        document_weights = self.vocabulary.weights(document_vector)
        shared = [
            SharedToken(token, weight, document_weights[token], weight * document_weights[token])
            for token, weight in query_weights.items()
            if token in document_weights
        ]
        shared.sort(key=lambda match: -match.product)
        spans, read = self._tokenizing.run(len(document), partial(self._spans, document))
        return Explanation(query, document, tuple(shared), query_weights, document_weights, spans, read)

    def _spans(self, document: str) -> tuple[tuple[Span, ...], int]:
        """As Tokenizer.spans, of a document after its prompt."""
        prompted = self._prompted(document, "doc")
        spans, read = self._tokenizer.spans(prompted, self._max_length["doc"])
        before = len(prompted) - len(document)
        if not before:
            return spans, read
        within = [span for span in spans if span.end > before]
        return tuple(Span(max(at - before, 0), end - before, token) for at, end, token in within), max(read - before, 0)

    def own_tokens(self, text: str, *, role: RoleName = "doc") -> frozenset[str]:
        """The tokens of the text as the model reads it; all others in its vector are expansions.

        >>> sorted(Expander().own_tokens("atomic bomb"))
        ['atomic', 'bomb']
        """
        _check_role(role)
        tokenized = self._tokenize(_single("text", text), role)
        vocabulary = self.vocabulary
        return frozenset(vocabulary.tokens[token] for token in tokenized.ids[0] if vocabulary.carries_weight[token])

    def _tokenize_each(self, texts: Iterable[str], tokenize: Callable[[str], Tokenized]) -> Iterator[Tokenized]:
        if not self._on_gpu:
            return map(tokenize, _checked(texts))
        from spladerunner.inference.batches import tokenize_ahead  # CPUs start without

        return tokenize_ahead(_checked(texts), tokenize, self._threads)

    def _stream(self, texts: Iterable[TokenizedText], role: RoleName, threads: int) -> Iterator[SparseVector]:
        encoder = self._encoder(role)
        if self._on_gpu:
            from spladerunner.inference.dynamic_batches import DynamicBatches  # CPUs start without

            if isinstance(encoder, DynamicBatches):
                return encoder.stream(texts, self._max_length[role])

        def run(text: TokenizedText) -> SparseVector:
            return self._running.run(text.ids.size, partial(encoder, text))

        return run_in_order(texts, run, threads=threads, tokens_in_flight=self._tokens_in_flight)

    def _tokenize(self, text: str, role: RoleName) -> TokenizedText:
        return self._tokenizing.run(len(text), partial(self._tokenize_admitted, text, role))

    def _tokenize_admitted(self, text: str, role: RoleName) -> TokenizedText:
        return self._tokenizer.encode(self._prompted(text, role), self._max_length[role])

    def _prompted(self, text: str, role: RoleName) -> str:
        """The text after the role's prompt. Without a text there is nothing to weigh, whatever the prompt."""
        prompt = self._bundle.roles[role].prompt
        return prompt + text if prompt and text and not text.isspace() else text

    def _prepare(self, text: str, role: RoleName) -> tuple[Encoder, TokenizedText]:
        return self._encoder(role), self._tokenize_admitted(text, role)

    def _encoder(self, name: RoleName) -> Encoder:
        if name not in self._encoders:
            with self._opening:
                if name not in self._encoders:
                    self._encoders[name] = self._shared(name) or self._open(name)
        role, encoder = self._bundle.roles[name], self._encoders[name]
        return LexicalEncoder(encoder) if isinstance(role, GraphRole) and role.lexical else encoder

    def _shared(self, name: RoleName) -> Encoder | None:
        """The other role's encoder, if one graph serves both; they may read different lengths."""
        served_by = {each: _served_by(role) for each, role in self._bundle.roles.items()}
        return next((found for each, found in self._encoders.items() if served_by[each] == served_by[name]), None)

    def _open(self, name: RoleName) -> Encoder:
        role = self._bundle.roles[name]
        debug(__name__, "%s: opening %s for %s", self.name, role.files[0], name)
        if isinstance(role, TokenWeightsRole):
            weights = self._bundle.read_token_weights(role, self._tokenizer.positions())
            return TokenWeightsEncoder(self._bundle.path(role.token_weights), weights, self.vocabulary)
        graph = self._bundle.read_graph(role)
        with BackgroundCall(partial(self._check, graph.files)):
            content = None if graph.is_large and not self._bundle.files else bytes(graph.content)
            session = Session(graph.path, self._providers, content=content, initializers=graph.initializers)
        graph.release()
        if session.device is not None and role.head == "masked_lm":
            from spladerunner.inference.batch_encoder import BatchEncoder  # CPUs start without
            from spladerunner.inference.dynamic_batches import DynamicBatches

            encoder = BatchEncoder(session, self.vocabulary)
            return DynamicBatches(encoder, self._running, self._threads, self._tokens_in_flight)
        entries = self._bundle.read_entries(role, len(self.vocabulary))
        return GRAPH_ENCODERS[role.head](session, self.vocabulary, role.pooling, role.activation, entries)

    def _check(self, files: Mapping[str, Content]) -> None:
        """Compares the files of a graph, and the vocabulary, with the manifest."""
        self._bundle.check(files)
        self._read_vocabulary()

    def _read_vocabulary(self) -> Vocabulary:
        """Lists the vocabulary and compares it with the manifest. Raises IntegrityError or ModelFilesError."""
        vocabulary = self._tokenizer.vocabulary
        _check_vocabulary(self._bundle, vocabulary)
        self._vocabulary = vocabulary
        return vocabulary

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


def _check_vocabulary(bundle: Bundle, vocabulary: Vocabulary) -> None:
    """Raises IntegrityError if the vocabulary differs from the manifest's."""
    found = VocabularyRecord(len(vocabulary), vocabulary.sha256)
    expected = bundle.vocabulary
    if expected is not None and found != expected:
        raise IntegrityError(
            f"{bundle.tokenizer} has a vocabulary of {found.size} tokens with SHA-256 {found.sha256}, but the "
            f"manifest says {expected.size} and {expected.sha256}. Fetch or export the bundle again.",
            path=bundle.tokenizer,
            expected=(expected.size, expected.sha256),
            found=(found.size, found.sha256),
        )


def _read_tokenizer(bundle: Bundle) -> Tokenizer:
    """The bundle's tokenizer. Raises IntegrityError or ModelFilesError if it differs from the manifest."""
    tokenizer = Tokenizer(bundle.tokenizer, bundle.read_tokenizer())
    for name, role in bundle.roles.items():
        least = tokenizer.special_tokens_added + 1
        positions = role.positions if isinstance(role, GraphRole) else None
        most = MOST_TOKENS if positions is None else min(positions, MOST_TOKENS)
        if not least <= role.max_length <= most:
            raise ModelFilesError(
                f"{bundle.folder} reads {role.max_length} tokens of a {name} text; at least {least} are needed, one "
                f"beside the special ones, and {most} are the most. Fetch or export it again.",
                path=bundle.folder,
                expected=(least, most),
                found=role.max_length,
            )
    return tokenizer


def _interpretation(pooling: str | None, activation: str | None, query: str | None) -> Interpretation | None:
    """The options for a folder without a manifest. Raises ValueError if one has an unknown value."""
    if pooling is activation is query is None:
        return None
    from spladerunner.model.bare_folder import Interpretation  # a bundle starts without it

    known = {"pooling": (pooling, POOLINGS), "activation": (activation, ACTIVATIONS), "query": (query, QUERIES)}
    for option, (given, values) in known.items():
        if given is not None and given not in values:
            raise ValueError(f"{option}={given!r} is not known: it must be one of {', '.join(values)}")
    return Interpretation(pooling, activation, query)


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
    """The texts, a single one in a list. An error has the type only: the value may be huge, or secret."""
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, bytes | bytearray | Mapping) or not isinstance(texts, Iterable):
        raise TypeError(f"texts must be a str or an iterable of str, not {type(texts).__name__}")
    return texts


def _served_by(role: Role) -> Role:
    """The role without what two roles of one graph may differ in."""
    role = replace(role, max_length=0, prompt=None)
    return replace(role, lexical=False) if isinstance(role, GraphRole) else role


def _checked(texts: Iterable[str]) -> Iterator[str]:
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{index}] must be a str, not {type(text).__name__}")
        yield text


def _single(name: str, text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, not {type(text).__name__}")
    return text
