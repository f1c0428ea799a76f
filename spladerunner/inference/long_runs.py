"""Collapses very long words and white space, without a change to the tokens of BERT's tokenizer.

BERT's tokenizer turns a word of more than a hundred characters into [UNK], whatever they are, and white space of any
length separates words as one space does. So the first tokens of a text that begins with megabytes of either are known
without tokenizing all of it.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable

import tokenizers

KEPT = 256
"""Characters kept of a long run."""

_IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
"""Ranges of characters that BERT's tokenizer separates into words of one character."""


def can_collapse(tokenizer: tokenizers.Tokenizer, added_tokens: Iterable[str]) -> bool:
    """True if the tokenizer works as BERT's does, and no added token can be part of a word."""
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
    """Cuts words of more than KEPT characters to KEPT, and long white space to one space.

    >>> len(collapse_long_runs("a" * 1_000_000))
    256
    """
    kinds: dict[str, list[str]] = {"": [], "letter": [], "mark": [], "space": [], "removed": []}
    for character in set(text):
        kinds[_kind(character)].append(re.escape(character))
    letter, mark, space, removed = ("".join(kinds[kind]) for kind in ("letter", "mark", "space", "removed"))
    if space:
        # White space may contain characters that BERT removes; a run of these alone disappears.
        text = re.sub(
            f"[{space}{removed}]{{{KEPT},}}", lambda run: " " if re.search(f"[{space}]", run[0]) else "", text
        )
    elif removed:
        text = re.sub(f"[{removed}]{{{KEPT},}}", "", text)
    if mark:
        # BERT strips marks, or keeps them: then a run of them is a long word.
        text = re.sub(f"([{mark}]{{{KEPT}}})[{mark}]+", r"\1", text)
    if letter:
        # BERT may remove marks and control characters, so only letters are counted.
        within = f"[{mark}{removed}]*" if mark or removed else ""
        more = f"[{letter}{mark}{removed}]"
        text = re.sub(f"(?<!{more})((?:{within}[{letter}]){{{KEPT}}}){more}*", r"\1", text)
    return text


def origins(beginning: str, text: str) -> list[int]:
    """Positions in the text of the characters of `beginning`, which collapse_long_runs(text) begins with.

    A collapsed run never contains the character that follows it, so each is the next occurrence of that character.
    """
    places, at = [], -1
    white = re.compile(
        "[" + "".join(re.escape(character) for character in set(text) if _kind(character) == "space") + " ]"
    )
    for character in beginning:
        if character == " ":  # a run of any white space became one space
            found = white.search(text, at + 1)
            at = found.start() if found else len(text)
        else:
            at = text.index(character, at + 1)
        places.append(at)
    return places


def _kind(character: str) -> str:
    """Class of a character in BERT's tokenizer; "" if it is a word by itself, or its class is not certain."""
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
