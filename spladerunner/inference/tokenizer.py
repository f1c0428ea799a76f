"""Turns texts into token ids, with the model's tokenizer.json."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tokenizers

from spladerunner.errors import ModelFilesError
from spladerunner.inference.fork import native_lock
from spladerunner.inference.freed_memory import return_freed_memory
from spladerunner.inference.prefix import prefixes, reads_words_apart
from spladerunner.log import debug
from spladerunner.vocabulary import Vocabulary

if TYPE_CHECKING:  # numpy.typing is slow to import
    from numpy.typing import NDArray

CHARACTERS_PER_TOKEN = 8
"""Characters of a long text tokenized at first, for each token wanted. Prose has five or six a token."""

LEAST_TOKENS = 256
"""Tokens that the first attempt provides for, at least: reading less would not be faster."""

_GAPS = 1000
"""Positions without a token that a vocabulary may have beside as many as it has tokens."""


LARGE = 1 << 14
"""Characters whose tokenizing takes so much memory that it is returned to the system; that takes a few milliseconds."""


class TokenizedText(NamedTuple):
    """A text as the model reads it.

    ids, mask, type_ids: (1, L) int64; mask is all ones. content_tokens: number of tokens without special ones.
    """

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    type_ids: NDArray[np.int64]
    content_tokens: int

    @property
    def tokens(self) -> int:
        """The number of tokens, special ones included."""
        return self.ids.size


class Window(NamedTuple):
    """A window of a text. start, end: of its tokens in the text. tokens: of the whole text, without special ones."""

    start: int
    end: int
    tokens: int
    text: TokenizedText


class _SpecialTokens(NamedTuple):
    """The ids and type ids before and after a text's own tokens, and the type id of those."""

    ids: tuple[NDArray[np.int64], NDArray[np.int64]]
    type_ids: tuple[NDArray[np.int64], NDArray[np.int64]]
    type_id: np.int64

    def around(self, ids: NDArray[np.int64]) -> TokenizedText:
        """The tokens with these around them."""
        all_ids, type_ids = (
            np.concatenate([before, content, after])[None]
            for (before, after), content in ((self.ids, ids), (self.type_ids, np.full_like(ids, self.type_id)))
        )
        return TokenizedText(all_ids, np.ones_like(all_ids), type_ids, ids.size)


class Span(NamedTuple):
    """Position of a token in a text: text[start:end]. Tokens that are parts of one character have the same span.

    >>> from spladerunner import Expander
    >>> text = "nuclear reactors"
    >>> [text[span.start : span.end] for span in Expander().explain("atomic bomb", text).spans]
    ['nuclear', 'reactors']
    """

    start: int
    end: int
    token: str


class Tokenizer:
    """A tokenizer.json, read once and shared by threads.

    path: of the file. content: of the file, if it was read before.
    Raises ModelFilesError if it is missing or not valid.
    """

    def __init__(self, path: str | PathLike[str], content: bytes | None = None) -> None:
        self._path = path
        with self._explained("cannot be read as a tokenizer"), native_lock():
            self._tokenizer = (
                tokenizers.Tokenizer.from_file(str(path))
                if content is None
                else tokenizers.Tokenizer.from_buffer(content)
            )
        if getattr(self._tokenizer.model, "dropout", None):  # for training: it would give other tokens at each call
            self._tokenizer.model.dropout = None
        # The tokenizer is shared by roles of different lengths, so the length is a parameter of each call.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._check_tokens()
        self._vocabulary: Vocabulary | None = None
        self.special_tokens_added: int = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        self._added: _SpecialTokens | None = None
        self._reads_words_apart = reads_words_apart(self._tokenizer)
        debug(
            __name__,
            "read %s: of a long text %s",
            path,
            "a prefix is tokenized" if self._reads_words_apart else "all is tokenized",
        )

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens by position, listed when first used: that takes half as long as to read the tokenizer.

        Raises ModelFilesError if a position is far beyond the others.
        """
        if self._vocabulary is None:  # not a cached_property, whose lock a child of fork could inherit held
            added = self._tokenizer.get_added_tokens_decoder()
            self._vocabulary = Vocabulary(
                self._tokens(),
                [position for position, token in added.items() if token.special],
                byte_level=b'"ByteLevel"' in _state(self._tokenizer.decoder),
            )
        return self._vocabulary

    def encode(self, text: str, max_length: int) -> TokenizedText:
        """The tokens of a text, cut at max_length tokens.

        Special tokens count towards max_length and are always kept. The ids are those of the complete text, cut; of a
        long text only a prefix is read, if the tokenizer allows it (see inference/prefix.py).
        """
        wanted = max_length - self.special_tokens_added
        with self._explained("failed on a text"):
            encoding, beginning = self._encode_beginning(text, wanted)
            tokens = self._first_tokens(encoding, wanted)
        if len(beginning) >= LARGE:
            del encoding
            return_freed_memory()
        return tokens

    def windows(self, text: str, max_length: int, overlap: int | None) -> Iterator[Window]:
        """Windows of max_length tokens of the whole text, each with special tokens; None gives the first one only.

        The text is tokenized at once, and its windows are made one by one. overlap: tokens that neighbors share.
        """
        wanted = max_length - self.special_tokens_added
        with self._explained("failed on a text"):
            encoding = self._encode(text)
            tokens = len(encoding)
            if tokens <= wanted:
                return iter([Window(0, tokens, tokens, self._first_tokens(encoding, wanted))])
            special = self._special_tokens(encoding)
        from spladerunner.passages import windows  # expansion starts without it

        ids = np.array(encoding.ids, dtype=np.int64)
        places = [(0, wanted)] if overlap is None else windows(tokens, wanted, overlap)
        return (Window(start, end, tokens, special.around(ids[start:end])) for start, end in places)

    def count(self, text: str) -> int:
        """The tokens of the whole text, without special ones."""
        with self._explained("failed on a text"):
            return len(self._encode(text))

    def _special_tokens(self, encoding: tokenizers.Encoding) -> _SpecialTokens:
        """The special tokens that the tokenizer adds, found in an encoding that has other tokens."""
        if self._added is None:
            processed = self._tokenizer.post_process(encoding)
            before = processed.sequence_ids.index(0)  # special tokens are of no sequence
            after = before + len(encoding)
            ids, type_ids = (np.array(values, dtype=np.int64) for values in (processed.ids, processed.type_ids))
            self._added = _SpecialTokens(
                (ids[:before], ids[after:]), (type_ids[:before], type_ids[after:]), type_ids[before]
            )
        return self._added

    def _first_tokens(self, encoding: tokenizers.Encoding, wanted: int) -> TokenizedText:
        encoding.truncate(wanted)
        content_tokens = len(encoding)
        encoding = self._tokenizer.post_process(encoding)
        return TokenizedText(
            ids=np.array([encoding.ids], dtype=np.int64),
            mask=np.array([encoding.attention_mask], dtype=np.int64),
            type_ids=np.array([encoding.type_ids], dtype=np.int64),
            content_tokens=content_tokens,
        )

    def spans(self, text: str, max_length: int) -> tuple[tuple[Span, ...], int]:
        """Spans of the tokens that encode returns, in order, without special tokens; and the number of characters read.

        All characters of the text are read, unless it is cut.
        """
        wanted = max_length - self.special_tokens_added
        with self._explained("failed on a text"):
            encoding, beginning = self._encode_beginning(text, wanted)
        cut = len(encoding) > wanted
        encoding.truncate(wanted)
        joined = _without_surrogates(beginning)
        at: Sequence[int] = range(len(beginning) + 1) if len(joined) == len(beginning) else _unpaired(joined, beginning)
        spans = tuple(
            Span(at[start], at[end], self.vocabulary.tokens[token])
            for (start, end), token in zip(encoding.offsets, encoding.ids, strict=True)
            if end > start
        )
        read_all = not cut and len(beginning) == len(text)
        return spans, len(text) if read_all else max((span.end for span in spans), default=0)

    def positions(self) -> dict[str, int]:
        """The position of each token, by the tokenizer's own spelling."""
        found: dict[str, int] = self._tokenizer.get_vocab()
        return found

    def _tokens(self) -> list[str]:
        """The token at each position, "" at a gap.

        Raises ModelFilesError if a position is far beyond the others.
        """
        tokens: list[str] = list(map(self._tokenizer.id_to_token, range(self._tokenizer.get_vocab_size())))
        if None not in tokens:  # without gaps; a third faster than positions()
            return tokens
        positions = self.positions()
        highest = max(positions.values())
        if highest > 2 * len(positions) + _GAPS:
            raise self._invalid(f"has {len(positions)} tokens at positions up to {highest}")
        tokens = [""] * (highest + 1)
        for token, position in positions.items():
            tokens[position] = token
        return tokens

    def _check_tokens(self) -> None:
        """Raises ModelFilesError if there are no tokens, one is missing that a text may need, or two are one."""
        if not self._tokenizer.get_vocab_size():
            raise self._invalid("has no tokens")
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        if unknown is not None and self._tokenizer.token_to_id(unknown) is None:
            raise self._invalid(f"names the unknown token {unknown!r}, which it does not have")
        with self._explained("cannot encode an empty text"), native_lock():
            special = self._tokenizer.encode("").ids
        for position in special:
            if self._tokenizer.id_to_token(position) is None:
                raise self._invalid(f"adds the special token {position}, which it does not have")
        if same := same_added_tokens(self._tokenizer):
            first, second = same
            raise ModelFilesError(
                f"{self._path} adds the tokens {first!r} and {second!r}, which its normalizer makes the same, so that "
                'tokenizers reads either of them, by chance. Set "normalized" of one of them to false.',
                path=self._path,
            )

    def _invalid(self, what: str) -> ModelFilesError:
        return ModelFilesError(f"{self._path} {what}. Fetch or export the model again.", path=self._path)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Turns what tokenizers raises, the bare Exception type or a panic of Rust, into ModelFilesError."""
        try:
            yield
        except BaseException as error:
            # A panic cannot be imported, and is no Exception: such as that of a regular expression that takes forever.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise self._invalid(f"{what}: {error}") from error

    def _encode_beginning(self, text: str, wanted: int) -> tuple[tokenizers.Encoding, str]:
        """An encoding without special tokens, whose first `wanted` tokens are those of the complete text.

        Also returns the prefix of the text that was encoded.
        """
        length = CHARACTERS_PER_TOKEN * max(wanted, LEAST_TOKENS)
        for beginning in prefixes(text, length) if self._reads_words_apart else (text,):
            encoding = self._encode(beginning)
            if len(encoding) >= wanted:
                break
        return encoding, beginning

    def _encode(self, text: str) -> tokenizers.Encoding:
        with native_lock():
            return self._tokenizer.encode(_without_surrogates(text), add_special_tokens=False)


def _state(part: object) -> bytes:
    """A part of a tokenizer in the tokenizers library's JSON; empty if the tokenizer has no such part."""
    state: bytes = b"" if part is None else part.__getstate__()  # type: ignore[attr-defined]
    return state


def _without_surrogates(text: str) -> str:
    """The text with surrogate pairs joined, and lone surrogates replaced by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _unpaired(joined: str, text: str) -> list[int]:
    """Position in the text of each character of its joined form, and of its end."""
    starts, at = [], 0
    for character in joined:
        starts.append(at)
        at += 2 if character > "\uffff" and text[at] != character else 1
    return [*starts, at]


def same_added_tokens(tokenizer: tokenizers.Tokenizer) -> tuple[str, str] | None:
    """Finds two added tokens that have the same normalized form and are both matched in normalized text, or None.

    tokenizers 0.23 keeps them in a table whose order changes each time that it is read.
    """
    normalizer = tokenizer.normalizer
    forms = dict[str, str]()
    for _, token in sorted(tokenizer.get_added_tokens_decoder().items()):
        if normalizer is not None and token.normalized:
            form = normalizer.normalize_str(token.content)
            if form in forms:
                return forms[form], token.content
            forms[form] = token.content
    return None
