"""Reads how many tokens a model accepts from the files of transformers, config.json and tokenizer_config.json."""

# Annotations are not postponed here, as in manifest.py.
from dataclasses import dataclass
from pathlib import Path

from spladerunner.errors import ModelFilesError
from spladerunner.model.content import is_there
from spladerunner.model.json_file import REPAIR, read_fields

DEFAULT = 512
"""Tokens that BERT accepts, for folders whose files set no length."""

NO_LIMIT = 1 << 31
"""transformers writes 10 to the power of 30 for a tokenizer without a limit."""

_OFFSET_FAMILIES = ("roberta", "xlm-roberta", "camembert")


@dataclass(frozen=True)
class _Config:
    max_position_embeddings: int | None = None
    model_type: str | None = None
    pad_token_id: int | None = None


@dataclass(frozen=True)
class _TokenizerConfig:
    model_max_length: float | None = None


def read_max_length(folder: Path, stated: int | None = None) -> int:
    """The most tokens that model and tokenizer both accept. Raises ModelFilesError if a file is not valid.

    stated: a length by another file, in place of the tokenizer's.
    """
    lengths = [read_positions(folder), read_tokenizer_length(folder) if stated is None else stated]
    return min((length for length in lengths if length is not None), default=DEFAULT)


def read_positions(folder: Path) -> int | None:
    """The most tokens that the position embedding accepts, by config.json; None if it sets no limit."""
    path = folder / "config.json"
    if not is_there(path):
        return None
    config: _Config = read_fields(_Config, path)
    positions = config.max_position_embeddings
    if positions is not None and config.model_type in _OFFSET_FAMILIES:
        positions -= 1 + (1 if config.pad_token_id is None else config.pad_token_id)  # they start after the padding's
    return None if positions is None else as_length(positions, path, "max_position_embeddings")


def read_tokenizer_length(folder: Path) -> int | None:
    """The length that tokenizer_config.json sets; None if it sets none."""
    path = folder / "tokenizer_config.json"
    if not is_there(path):
        return None
    config: _TokenizerConfig = read_fields(_TokenizerConfig, path)
    length = config.model_max_length
    return None if length is None or length >= NO_LIMIT else as_length(length, path, "model_max_length")


def as_length(value: float, path: Path, field: str) -> int:
    """A length that a file sets. Raises ModelFilesError if it is not a whole number of at least 1."""
    if value < 1 or value != int(value):
        raise ModelFilesError(
            f"{path} has {field} = {value!r}, which is not a number of tokens. {REPAIR}",
            path=path,
            expected="an integer of at least 1",
            found=value,
        )
    return int(value)
