"""Texts to token ids, with the model's own tokenizer.json."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import NamedTuple

import numpy as np
import tokenizers
from numpy.typing import NDArray

from spladerunner.errors import ModelFilesError
from spladerunner.inference.long_runs import can_collapse, collapse_long_runs, origins
from spladerunner.vocabulary import Vocabulary

CHARACTERS_PER_TOKEN = 8
"""A long text is first read up to this many characters for each token wanted; prose has five or six."""

LEAST_TOKENS = 256
"""The first reading is for no fewer tokens than this: below it, reading less gains nothing."""


class TokenizedText(NamedTuple):
    """Texts as the model reads them.

    ids, mask, type_ids: (B, L) int64; mask is 1 on tokens, 0 on padding. contents: how many of the tokens are the
    text's own, special ones left out, summed over the batch.
    """

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    type_ids: NDArray[np.int64]
    contents: int


class Span(NamedTuple):
    """Where a token stands in a text: text[start:end]. Pieces of one character stand at the same place."""

    start: int
    end: int
    token: str


class Tokenizer:
    """A tokenizer.json, read once and shared by threads.

    Raises ModelFilesError where the file is missing or unreadable.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises the bare Exception type
            raise ModelFilesError(
                f"{path} cannot be read as a tokenizer: {error}. Fetch or export the model again."
            ) from error
        # Both would be state that roles of different lengths share; the length is a matter of each call.
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

    def encode(self, text: str, max_length: int) -> TokenizedText:
        """One text as a batch of one row, cut at max_length tokens.

        The special tokens count towards max_length and are always kept: what is cut is the text. The ids are those
        of the whole text, cut, though of a long one only the beginning is read.
        """
        contents = max_length - self.special_tokens_added
        encoding, _ = self._encode_beginning(_without_surrogates(text), contents)
        encoding.truncate(contents)
        count = len(encoding)
        encoding = self._tokenizer.post_process(encoding)
        return TokenizedText(
            ids=np.array([encoding.ids], dtype=np.int64),
            mask=np.array([encoding.attention_mask], dtype=np.int64),
            type_ids=np.array([encoding.type_ids], dtype=np.int64),
            contents=count,
        )

    def spans(self, text: str, max_length: int) -> tuple[tuple[Span, ...], int]:
        """Where the tokens that encode gives stand in the text, in order, special ones left out.

        And how many of the text's characters are read: all of them, unless the text is cut.
        """
        contents = max_length - self.special_tokens_added
        whole = _without_surrogates(text)
        encoding, seen = self._encode_beginning(whole, contents)
        cut = len(encoding) > contents
        encoding.truncate(contents)
        last = max((end for _, end in encoding.offsets), default=0)
        collapsed = not whole.startswith(seen[:last])
        in_whole: Sequence[int] = origins(seen[:last], whole) if collapsed else range(last)
        in_text: Sequence[int] = range(len(text) + 1) if len(whole) == len(text) else _unpaired(whole, text)
        spans = tuple(
            Span(in_text[in_whole[start]], in_text[in_whole[end - 1] + 1], self.vocabulary.tokens[token])
            for (start, end), token in zip(encoding.offsets, encoding.ids, strict=True)
            if end > start
        )
        return spans, max((span.end for span in spans), default=0) if cut else len(text)

    def _encode_beginning(self, text: str, wanted: int) -> tuple[tokenizers.Encoding, str]:
        """An encoding, without special tokens, whose first `wanted` tokens are those of the whole text.

        And the text that its offsets are in: this one or, where that was endless, the collapsed one.
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
        """How many leading tokens of a text's first `size` characters the rest of the text cannot change.

        What is cut in two at the end is a word, the white space before it, or the spelling of an added token.
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
    """The token at each position, "" where there is none."""
    tokens = list(map(tokenizer.id_to_token, range(tokenizer.get_vocab_size())))
    if None in tokens:  # there are gaps, and positions beyond the number of tokens
        position_of = tokenizer.get_vocab()
        tokens = [""] * (max(position_of.values()) + 1)
        for token, position in position_of.items():
            tokens[position] = token
    return tokens


def _state(part: object) -> bytes:
    """A part of a tokenizer as tokenizers writes it, in JSON; nothing where the tokenizer has no such part."""
    state: bytes = b"" if part is None else part.__getstate__()  # type: ignore[attr-defined]
    return state


def _without_surrogates(text: str) -> str:
    """The text with surrogate pairs joined, and each surrogate that has no partner replaced by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _unpaired(joined: str, text: str) -> list[int]:
    """Where in the text each character of its joined form begins."""
    starts, at = [], 0
    for character in joined:
        starts.append(at)
        at += 2 if character > "\uffff" and text[at] != character else 1
    return [*starts, at]
