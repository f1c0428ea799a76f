"""Texts to token ids, with the model's own tokenizer.json."""

from __future__ import annotations

import re
from dataclasses import dataclass
from os import PathLike

import numpy as np
import tokenizers
from numpy.typing import NDArray

from spladerunner.errors import ModelFilesError
from spladerunner.vocabulary import Vocabulary

CHARACTERS_PER_TOKEN = 8
"""A long text is first read up to this many characters for each token wanted; prose has five or six."""

WORD_PIECE_RUN = 256
"""More characters than WordPiece takes for a word (100): a longer word is [UNK], however it goes on."""


@dataclass(frozen=True)
class TokenBatch:
    """Texts as the model reads them.

    ids, mask, type_ids: (B, L) int64; mask is 1 on tokens, 0 on padding. contents: how many of the tokens are the
    text's own, special ones left out, summed over the batch.
    """

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    type_ids: NDArray[np.int64]
    contents: int


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
            self._tokenizer.get_vocab(with_added_tokens=True),
            [position for position, token in added.items() if token.special],
        )
        self.special_tokens_added: int = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        self._longest_added = max((len(token.content) for token in added.values()), default=0)
        self._is_word_piece = isinstance(self._tokenizer.model, tokenizers.models.WordPiece)

    def encode(self, text: str, max_length: int) -> TokenBatch:
        """One text as a batch of one row, cut at max_length tokens.

        The special tokens count towards max_length and are always kept: what is cut is the text. The ids are those
        of the whole text, cut, though of a long one only the beginning is read.
        """
        contents = max_length - self.special_tokens_added
        encoding = self._encode_beginning(_without_surrogates(text), contents)
        encoding.truncate(contents)
        count = len(encoding)
        encoding = self._tokenizer.post_process(encoding)
        return TokenBatch(
            ids=np.array([encoding.ids], dtype=np.int64),
            mask=np.array([encoding.attention_mask], dtype=np.int64),
            type_ids=np.array([encoding.type_ids], dtype=np.int64),
            contents=count,
        )

    def _encode_beginning(self, text: str, wanted: int) -> tokenizers.Encoding:
        """An encoding, without special tokens, whose first `wanted` tokens are those of the whole text."""
        size = CHARACTERS_PER_TOKEN * max(wanted, WORD_PIECE_RUN)
        if self._is_word_piece and len(text) > size:
            beginning = self._tokenizer.encode(text[:size], add_special_tokens=False)
            if self._settled(beginning, size) >= wanted:
                return beginning
            text = _squeeze(text, max(wanted, WORD_PIECE_RUN))
        while len(text) > size:
            beginning = self._tokenizer.encode(text[:size], add_special_tokens=False)
            if self._settled(beginning, size) >= wanted:
                return beginning
            size *= 2
        return self._tokenizer.encode(text, add_special_tokens=False)

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


def _without_surrogates(text: str) -> str:
    """The text with surrogate pairs joined, and each surrogate that has no partner replaced by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _squeeze(text: str, run: int) -> str:
    """The text with endless words and endless repetitions shortened to at least `run` characters.

    For WordPiece tokenizers, and `run` of at least the tokens wanted and of WORD_PIECE_RUN, the first `run` tokens
    stay the same. One character repeated is nothing (white space, control characters), one token each
    (punctuation, ideographs), or one word; ASCII letters, digits and emoji in a row are one word, and one so long
    is [UNK].
    """
    word = "[0-9A-Za-z\U0001f300-\U0001faff]"
    more = rf"(.)\1{{{run - 1}}}(?=\1{{{run}}})|{word}{{{run}}}(?={word}{{{run}}})"
    return re.sub(more, "", text, flags=re.DOTALL)
