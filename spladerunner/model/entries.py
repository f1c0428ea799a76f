"""Reads the vocabulary entries that a graph weighs, for a graph whose decoder lacks the others."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spladerunner.errors import ModelFilesError
from spladerunner.model.json_file import REPAIR, decode_json

if TYPE_CHECKING:  # numpy.typing is slow to import
    from numpy.typing import NDArray


def read_entries(path: Path, content: bytes, size: int) -> NDArray[np.int32]:
    """The positions in a JSON file, (K,) int32: position n of the graph's output is entry n of these.

    size: of the vocabulary. Raises ModelFilesError if they are not integers from 0 to size - 1, ascending, or none.

    >>> read_entries(Path("entries.json"), b"[3, 7]", 8)
    array([3, 7], dtype=int32)
    """
    found = decode_json(content, path)
    integers = found if isinstance(found, list) and all(type(each) is int for each in found) else []
    ascend = all(first < second for first, second in pairwise(integers))
    if not (integers and ascend and integers[0] >= 0 and integers[-1] < size):
        raise ModelFilesError(
            f"{path} is not an array of vocabulary entries, ascending integers from 0 to {size - 1}. {REPAIR}",
            path=path,
            expected=f"ascending integers from 0 to {size - 1}",
            found=integers or type(found).__name__,
        )
    return np.array(integers, dtype=np.int32)
