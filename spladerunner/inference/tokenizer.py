"""Turns texts into token ids, with the model's tokenizer.json."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tokenizers

from spladerunner.errors import ModelFilesError
from spladerunner.inference.long_runs import can_collapse, collapse_long_runs, origins
from spladerunner.log import debug
from spladerunner.vocabulary import Vocabulary

if TYPE_CHECKING:  # numpy.typing is slow to import
    from numpy.typing import NDArray

CHARACTERS_PER_TOKEN = 8
"""Characters of a long text tokenized at first, for each token wanted. Prose has five or six a token."""

LEAST_TOKENS = 256
"""Tokens that the first attempt provides for, at least: reading less would not be faster."""


class TokenizedText(NamedTuple):
    """A text as the model reads it.

    ids, mask, type_ids: (1, L) int64; mask is all ones. content_tokens: number of tokens without special ones.
    """

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    type_ids: NDArray[np.int64]
    content_tokens: int


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

    path: of the file. Raises ModelFilesError if it is missing or not valid.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises the bare Exception type
            raise ModelFilesError(
                f"{path} cannot be read as a tokenizer: {error}. Fetch or export the model again.", path=path
            ) from error
        # The tokenizer is shared by roles of different lengths, so the length is a parameter of each call.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        added = self._tokenizer.get_added_tokens_decoder()
        self.vocabulary = Vocabulary(
            _tokens(self._tokenizer),
            [position for position, token in added.items() if token.special],
            byte_level=b'"ByteLevel"' in _state(self._tokenizer.decoder),
        )
        self.special_tokens_added: int = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        self._longest_added = max((len(token.content) for token in added.values()), default=0)
        self._can_collapse = can_collapse(self._tokenizer, [token.content for token in added.values()])
        debug(
            __name__,
            "read %s: %d tokens, long runs in texts are %s",
            path,
            len(self.vocabulary),
            "collapsed" if self._can_collapse else "read in full, as the tokenizer is not BERT's",
        )

    def encode(self, text: str, max_length: int) -> TokenizedText:
        """The tokens of a text, cut at max_length tokens.

        Special tokens count towards max_length and are always kept. Only the beginning of a long text is read; the ids
        are those of the complete text, cut.
        """
        wanted = max_length - self.special_tokens_added
        encoding, _ = self._encode_beginning(_without_surrogates(text), wanted)
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
        joined = _without_surrogates(text)
        encoding, encoded = self._encode_beginning(joined, wanted)
        cut = len(encoding) > wanted
        encoding.truncate(wanted)
        last = max((end for _, end in encoding.offsets), default=0)
        collapsed = not joined.startswith(encoded[:last])
        in_joined: Sequence[int] = origins(encoded[:last], joined) if collapsed else range(last)
        in_text: Sequence[int] = range(len(text) + 1) if len(joined) == len(text) else _unpaired(joined, text)
        spans = tuple(
            Span(in_text[in_joined[start]], in_text[in_joined[end - 1] + 1], self.vocabulary.tokens[token])
            for (start, end), token in zip(encoding.offsets, encoding.ids, strict=True)
            if end > start
        )
        return spans, max((span.end for span in spans), default=0) if cut else len(text)

    def _encode_beginning(self, text: str, wanted: int) -> tuple[tokenizers.Encoding, str]:
        """An encoding without special tokens, whose first `wanted` tokens are those of the complete text.

        Also returns the text that its offsets refer to: the given one, or the same with its long runs collapsed.
        """
        size = CHARACTERS_PER_TOKEN * max(wanted, LEAST_TOKENS)
        collapsed = not self._can_collapse
        while len(text) > size:
            beginning = self._tokenizer.encode(text[:size], add_special_tokens=False)
            if self._settled(beginning, size) >= wanted:
                return beginning, text
            if collapsed:
                size *= 2
            else:
                text, collapsed = collapse_long_runs(text), True
        return self._tokenizer.encode(text, add_special_tokens=False), text

    def _settled(self, beginning: tokenizers.Encoding, size: int) -> int:
        """Number of leading tokens of a text's first `size` characters that the rest of the text cannot change.

        The cut may go through a word, the white space before it, or the spelling of an added token.
        """
        words = beginning.word_ids
        offsets = beginning.offsets
        settled = len(words)
        while settled and (
            words[settled - 1] is None
            or words[settled - 1] >= words[-1] - 1
            or offsets[settled - 1][1] > size - self._longest_added
        ):
            settled -= 1
        return settled


def _tokens(tokenizer: tokenizers.Tokenizer) -> list[str]:
    """The token at each position, "" at a gap."""
    position_of = tokenizer.get_vocab()  # one call takes half the time of one for each token
    tokens = [""] * (max(position_of.values(), default=-1) + 1)
    for token, position in position_of.items():
        tokens[position] = token
    return tokens


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
