"""Prefixes of a long text whose tokens are the first tokens of the whole text.

A tokenizer that splits at white space reads the two sides of a space independently, so the tokens of "… cat" are the
first tokens of "… cat sat …". This holds if every part of the tokenizer treats the space between two ASCII letters
locally. `reads_words_apart` accepts the parts for which it was derived and refuses every other:

- Normalizers: those of Unicode, BERT, SentencePiece (precompiled), and replacements of a literal without
  ASCII letters and white space, or of two and more spaces.
  No Unicode normalization form composes or reorders across an ASCII letter or a space (UAX #15).
- Pre-tokenizers: each one must split before such a space (BertPreTokenizer, Whitespace, WhitespaceSplit, Metaspace,
  ByteLevel with its regular expression) or split further within words (Punctuation, Digits).
- Added tokens: matched from left to right, so a match can cross the space only if its content contains white space.

A tokenizer with any other part reads the whole text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import tokenizers

_BOUNDARY = re.compile("[A-Za-z](?= [A-Za-z])")
_GROWTH = 4

_LOCAL_NORMALIZERS = frozenset(
    (
        "BertNormalizer",
        "Lowercase",
        "NFC",
        "NFD",
        "NFKC",
        "NFKD",
        "Nmt",
        "Precompiled",
        "Prepend",
        "Strip",
        "StripAccents",
    )
)
_WORD_SPLITTERS = frozenset(("BertPreTokenizer", "Whitespace", "WhitespaceSplit"))
_WITHIN_WORDS = frozenset(("Digits", "Punctuation"))


def reads_words_apart(tokenizer: tokenizers.Tokenizer) -> bool:
    """True if the tokens before a space between two ASCII letters never depend on the text after it."""
    normalizers = list(_parts(tokenizer.normalizer, "normalizers"))
    splitters = [part for part in _parts(tokenizer.pre_tokenizer, "pretokenizers") if part["type"] not in _WITHIN_WORDS]
    return (
        all(map(_normalizes_locally, normalizers))
        and bool(splitters)
        and all(map(_splits_at_spaces, splitters))
        and not any(map(_has_white_space, _added_forms(tokenizer)))
    )


def prefixes(text: str, length: int) -> Iterator[str]:
    """Prefixes of the text of at least `length` characters, each several times as long as the one before.

    Each ends before a space between two ASCII letters; the last one is the whole text.
    """
    while boundary := _BOUNDARY.search(text, length):
        yield text[: boundary.end()]
        length = _GROWTH * boundary.end()
    yield text


def _parts(part: object, sequence: str) -> Iterator[dict[str, Any]]:
    """The JSON of a normalizer or pre-tokenizer, sequences flattened."""
    pending = [] if part is None else [json.loads(part.__getstate__())]  # type: ignore[attr-defined]
    while pending:
        state = pending.pop()
        if state["type"] == "Sequence":
            pending += state[sequence]
        else:
            yield state


def _normalizes_locally(normalizer: dict[str, Any]) -> bool:
    if normalizer["type"] != "Replace":
        return normalizer["type"] in _LOCAL_NORMALIZERS
    pattern = normalizer["pattern"]
    if pattern.get("Regex") == " {2,}":
        return True
    literal = pattern.get("String", "")
    return bool(literal) and not re.search(r"[A-Za-z]|\s", literal) and not _has_white_space(normalizer["content"])


def _splits_at_spaces(pre_tokenizer: dict[str, Any]) -> bool:
    kind = pre_tokenizer["type"]
    if kind == "ByteLevel":
        return bool(pre_tokenizer.get("use_regex", True))
    if kind == "Metaspace":
        return bool(pre_tokenizer.get("split", True))
    return kind in _WORD_SPLITTERS


def _added_forms(tokenizer: tokenizers.Tokenizer) -> Iterator[str]:
    """The contents of the added tokens, as written and as normalized: either form may be matched."""
    normalizer = tokenizer.normalizer
    for token in tokenizer.get_added_tokens_decoder().values():
        yield token.content
        if normalizer is not None:
            yield normalizer.normalize_str(token.content)


def _has_white_space(text: str) -> bool:
    return any(map(str.isspace, text))
