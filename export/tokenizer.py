"""The tokenizer of a model to export, as the tokenizers library runs it."""

from __future__ import annotations

from pathlib import Path

import tokenizers

from spladerunner.errors import CheckpointError
from spladerunner.export.silence import silenced
from spladerunner.model.bundle import TOKENIZER


def read_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    """Reads tokenizer.json. Raises CheckpointError if it is missing or not valid."""
    path = folder / TOKENIZER
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {TOKENIZER}. Copy the one of the checkpoint into it.", path=folder)
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises the bare Exception type
        raise CheckpointError(f"{path} cannot be read as a tokenizer: {error}", path=path) from error


@silenced()
def load_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    """Loads a tokenizer as transformers runs it. Raises CheckpointError if transformers cannot."""
    from transformers import AutoTokenizer  # a graph is exported without it

    try:
        made = AutoTokenizer.from_pretrained(  # type: ignore[no-untyped-call]
            folder, local_files_only=True, trust_remote_code=False
        )
        backend: tokenizers.Tokenizer = made.backend_tokenizer
    except Exception as error:  # the parts of transformers share no narrower type
        raise CheckpointError(f"{folder} has no tokenizer that can be loaded: {error}", path=folder) from error
    return backend


def save_tokenizer(tokenizer: tokenizers.Tokenizer, path: Path) -> None:
    """Writes tokenizer.json, without truncation and padding."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(path))


def special_ids(tokenizer: tokenizers.Tokenizer) -> list[int]:
    """The ids of special tokens, which carry no weight."""
    return [position for position, token in tokenizer.get_added_tokens_decoder().items() if token.special]
