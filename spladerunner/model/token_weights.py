"""Reads a weight for each token, for queries without a model: a NumPy array, an idf.json, or a static embedding."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spladerunner.errors import ModelFilesError
from spladerunner.model.json_file import REPAIR, InvalidFieldError, decode_json, parse_fields

if TYPE_CHECKING:  # numpy.typing is slow to import
    from numpy.typing import NDArray

IDF = "idf.json"
"""OpenSearch's models have their weights of query tokens in a file of this name: {token: weight}."""

ONES = "weight 1"
"""Stands for the file in a role: each token has weight 1."""


def read_token_weights(path: Path, content: bytes, positions: Mapping[str, int], size: int) -> NDArray[np.float32]:
    """The weights in a file, (size,) float32.

    path: its suffix says of what kind it is: .npy, .json for {token: weight}, or .safetensors with one matrix.
    positions: of the tokens, by the tokenizer's own spelling. size: of the vocabulary.
    Raises ModelFilesError if the content is not such a file, or does not fit the vocabulary.
    """
    try:
        if path.suffix == ".json":
            return _of_json(path, content, positions, size)
        return _of_safetensors(path, content, size) if path.suffix == ".safetensors" else _of_npy(content, size)
    except InvalidFieldError as error:
        raise ModelFilesError(f"{path} {error}", path=path, expected=error.expected, found=error.found) from None
    except _OtherShapeError as error:
        raise ModelFilesError(
            f"{path} is {error.kind} of shape {error.shape}, not float32 of shape ({size},), a weight for each token. "
            f"{REPAIR}",
            path=path,
            expected=("float32", (size,)),
            found=(error.kind, error.shape),
        ) from None
    except ValueError as error:
        raise ModelFilesError(f"{path} cannot be read as token weights: {error}. {REPAIR}", path=path) from error


class _OtherShapeError(Exception):
    def __init__(self, kind: str, shape: object) -> None:
        super().__init__(kind, shape)
        self.kind = kind
        self.shape = shape


def _of_npy(content: bytes, size: int) -> NDArray[np.float32]:
    """Reads the format of NumPy (numpy.lib.format), whose header is compared before anything is allocated."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise ValueError(f"its version of the format is {version}")
    try:
        shape, _, kind = read_header[version](file)
    except Exception as error:  # NumPy reads headers as Python, whose errors have many types
        raise ValueError(f"its header cannot be read: {error}") from error
    if shape != (size,) or kind != np.float32:
        raise _OtherShapeError(str(kind), shape)
    return _floats(content[file.tell() :], size)


def _of_safetensors(path: Path, content: bytes, size: int) -> NDArray[np.float32]:
    """Reads the first tensor of the safetensors format: 8 bytes, the size of a JSON header, the header, the numbers."""
    length = int.from_bytes(content[:8], "little")
    if not 0 < length <= len(content) - 8:
        raise ValueError(f"its header has {length} bytes of {len(content)}")
    header = decode_json(content[8 : 8 + length], path)
    tensor = header.get("weight") if isinstance(header, dict) else None
    if not isinstance(tensor, dict) or not isinstance(offsets := tensor.get("data_offsets"), list):
        raise ValueError("it has no tensor of the name weight")
    kind, shape = tensor.get("dtype"), tensor.get("shape")
    if kind != "F32" or shape not in ([size], [size, 1]):
        raise _OtherShapeError(str(kind), shape)
    if offsets != [0, 4 * size]:
        raise ValueError(f"its tensor is at {offsets}, not at the {4 * size} bytes that it takes")
    return _floats(content[8 + length :], size)


def _floats(content: bytes, size: int) -> NDArray[np.float32]:
    if len(content) != 4 * size:
        raise ValueError(f"it has {len(content)} bytes for {size} weights")
    return np.frombuffer(content, "<f4").astype(np.float32)


def _of_json(path: Path, content: bytes, positions: Mapping[str, int], size: int) -> NDArray[np.float32]:
    """Weights by token; 0 for tokens that the file does not have."""
    weights = np.zeros(size)
    for token, weight in parse_fields(Mapping[str, float], decode_json(content, path)).items():
        if token not in positions:
            raise ValueError(f"it has a weight for {token!r}, which its tokenizer does not have")
        weights[positions[token]] = weight
    with np.errstate(over="ignore"):  # infinite weights are refused with those of the other formats
        return weights.astype(np.float32)
