"""Endless words and endless white space, shortened so that BERT's tokenizer still gives the same tokens.

To BERT's tokenizer a word of more than a hundred characters is [UNK], however it goes on, and any white space is as
good as one space. A text that begins with megabytes of either need not be tokenized whole to know its first tokens.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable

import tokenizers

KEPT = 256
"""Characters kept of an endless word."""

_IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
"""Each is a word of its own."""


def can_collapse(tokenizer: tokenizers.Tokenizer, added_tokens: Iterable[str]) -> bool:
    """Whether the tokenizer works as BERT's does, and no added token can hide within a word."""
    normalizer, model = tokenizer.normalizer, tokenizer.model
    return (
        isinstance(model, tokenizers.models.WordPiece)
        and model.max_input_chars_per_word < KEPT
        and isinstance(normalizer, tokenizers.normalizers.BertNormalizer)
        and normalizer.clean_text
        and isinstance(tokenizer.pre_tokenizer, tokenizers.pre_tokenizers.BertPreTokenizer)
        and all(any(character in string.punctuation for character in token) for token in added_tokens)
    )


def collapse_long_runs(text: str) -> str:
    """The text with each word of over KEPT characters cut to that, and long white space made one space."""
    kinds: dict[str, list[str]] = {"": [], "letter": [], "mark": [], "space": [], "removed": []}
    for character in set(text):
        kinds[_kind(character)].append(re.escape(character))
    letter, mark, space, removed = ("".join(kinds[kind]) for kind in ("letter", "mark", "space", "removed"))
    if space:
        # What BERT removes may stand among white space, and alone it is nothing.
        text = re.sub(
            f"[{space}{removed}]{{{KEPT},}}", lambda run: " " if re.search(f"[{space}]", run[0]) else "", text
        )
    elif removed:
        text = re.sub(f"[{removed}]{{{KEPT},}}", "", text)
    if mark:
        # Stripped, they are nothing; kept, so many are an endless word.
        text = re.sub(f"([{mark}]{{{KEPT}}})[{mark}]+", r"\1", text)
    if letter:
        # Marks and what is removed may vanish, so letters alone are counted.
        within = f"[{mark}{removed}]*" if mark or removed else ""
        more = f"[{letter}{mark}{removed}]"
        text = re.sub(f"(?<!{more})((?:{within}[{letter}]){{{KEPT}}}){more}*", r"\1", text)
    return text


def origins(beginning: str, text: str) -> list[int]:
    """Where in the text each character stands of a beginning of collapse_long_runs(text).

    What was collapsed out never holds the character that follows it, so each is the next of its like.
    """
    places, at = [], -1
    white = re.compile(
        "[" + "".join(re.escape(character) for character in set(text) if _kind(character) == "space") + " ]"
    )
    for character in beginning:
        if character == " ":  # it may stand for white space of any kind
            found = white.search(text, at + 1)
            at = found.start() if found else len(text)
        else:
            at = text.index(character, at + 1)
        places.append(at)
    return places


def _kind(character: str) -> str:
    """What BERT's tokenizer makes of a character; "" for what stands alone, and for what is not sure."""
    category = unicodedata.category(character)
    if character in "\t\n\r" or category[0] == "Z":
        return "space"
    if category in ("Cc", "Cf"):
        return "removed"
    if category == "Mn":
        return "mark"
    if character in string.punctuation or category[0] not in "LMNS":
        return ""
    if any(first <= ord(character) <= last for first, last in _IDEOGRAPHS):
        return ""
    return "letter"
