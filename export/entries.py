"""The vocabulary entries that a smaller decoder keeps: those that a corpus makes positive."""

from __future__ import annotations

from os import PathLike

import numpy as np
from numpy.typing import NDArray

from spladerunner.errors import CheckpointError
from spladerunner.readers.vectors import read_vectors
from spladerunner.vector import SparseVector
from spladerunner.vocabulary import Vocabulary


def positive_entries(path: str | PathLike[str], vocabulary: Vocabulary) -> NDArray[np.int32]:
    """The positions that have a positive weight in a vector of a JSON Lines file, (K,) int32 ascending.

    Raises InputError if the file is no such file or has tokens of another vocabulary, CheckpointError if no weight is
    positive.
    """
    is_positive = np.zeros(len(vocabulary), dtype=np.bool_)
    for line in read_vectors(path):
        try:
            vector = line.vector if isinstance(line.vector, SparseVector) else vocabulary.vector(line.vector)
        except ValueError as error:
            raise line.error(str(error)) from error
        if len(vector) and vector.indices[-1] >= len(vocabulary):
            raise line.error(f"index {vector.indices[-1]} is not in a vocabulary of {len(vocabulary)} tokens")
        is_positive[vector.indices[vector.values > 0]] = True
    entries = np.flatnonzero(is_positive & vocabulary.carries_weight).astype(np.int32)
    if not entries.size:
        raise CheckpointError(f"{path} has no positive weight, so no vocabulary entry would be left.", path=path)
    return entries
