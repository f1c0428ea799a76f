"""Attacks on the tokens of a text: random texts and tokenizers, and all code points, against the tokenizers library."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tokenizers import AddedToken
from tokenizers import Tokenizer as Reference

from spladerunner.inference.prefix import prefixes, reads_words_apart
from spladerunner.inference.tokenizer import CHARACTERS_PER_TOKEN, LEAST_TOKENS, Tokenizer, same_added_tokens
from tests.attack.tries import Tried
from tests.test_prefix import ADDED, FAMILIES, FLAGS, NORMALIZERS, PIECES, SWEPT, assembled, chunks, first_wrong, sweep

STRINGS = 1_000_000
TEXTS_PER_TOKENIZER = 200
LONG_TEXTS_PER_TOKENIZER = 2
LONG = 2 * CHARACTERS_PER_TOKEN * LEAST_TOKENS
CHARACTERS_PER_TRY = 64


def strings(chosen: Random) -> Iterator[Tried]:
    """Random texts through random tokenizers of the four families: their prefixes, and `Tokenizer` on long texts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        for _ in range(STRINGS // TEXTS_PER_TOKENIZER):
            reference = random_tokenizer(chosen)
            reference.save(str(path))
            tokenizer = Tokenizer(path)
            texts = [random_text(chosen) for _ in range(TEXTS_PER_TOKENIZER)]
            found = reads_words_apart(reference) and first_wrong(
                reference, {text: list(prefixes(text, chosen.randrange(60))) for text in texts}
            )
            if found:
                yield Tried(1, f"a prefix of {found!r} has other tokens, with {reference.to_str()}")
            for text in texts[:LONG_TEXTS_PER_TOKENIZER]:
                if not encodes_alike(tokenizer, reference, text, chosen.randrange(1, 40)):
                    yield Tried(1, f"{text!r} has other tokens, with {reference.to_str()}")
            yield Tried(TEXTS_PER_TOKENIZER)


def random_tokenizer(chosen: Random) -> Reference:
    """One of the families, with up to four added tokens of any flags, of which no two are the same."""
    while True:
        model, splitters = chosen.choice(FAMILIES)
        added = [
            (AddedToken(content, **{flag: chosen.random() < 0.5 for flag in FLAGS}), chosen.random() < 0.5)
            for content in chosen.sample(ADDED, chosen.randrange(5))
        ]
        made = assembled(model(), chosen.choice(splitters), chosen.choice(NORMALIZERS), added)
        if not same_added_tokens(made):
            return made


def random_text(chosen: Random) -> str:
    """Words, pieces of words and any characters, some of them side by side."""
    pieces = chosen.choices(PIECES, k=chosen.randrange(40))
    for at in range(0, len(pieces), 5):
        pieces[at] = chr(chosen.randrange(0xD800) if chosen.random() < 0.7 else chosen.randrange(0xE000, 0x110000))
    spaces = chosen.choices(("", " ", " ", "  "), k=len(pieces))
    return "".join(map(str.__add__, pieces, spaces))


def encodes_alike(tokenizer: Tokenizer, reference: Reference, text: str, max_length: int) -> bool:
    """True if the text, repeated until a prefix would do, has the ids of the whole text, cut."""
    text = text * (LONG // max(len(text), 1) + 1)
    return bool(tokenizer.encode(text, max_length).ids[0].tolist() == reference.encode(text).ids[:max_length])


def code_points(chosen: Random) -> Iterator[Tried]:
    """All 1,112,064 code points, in random order, in a text of each position, for each of the tokenizers."""
    characters = chunks(CHARACTERS_PER_TRY)
    chosen.shuffle(characters)
    for chunk in characters:
        found = next((text for made in SWEPT.values() if (text := sweep(made, chunk))), None)
        yield Tried(len(chunk), found and f"a prefix of {found!r} has other tokens")
