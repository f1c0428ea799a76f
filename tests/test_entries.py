from __future__ import annotations

import json
from pathlib import Path

import pytest

from spladerunner import ModelFilesError
from spladerunner.model.entries import read_entries


@pytest.mark.parametrize("entries", [[0], [7], [0, 7], [1, 2, 5]])
def test_ascending_positions_of_the_vocabulary_are_read(entries: list[int]) -> None:
    found = read_entries(Path("entries.json"), json.dumps(entries).encode(), 8)
    assert found.tolist() == entries and found.dtype == "int32"


@pytest.mark.parametrize(
    "entries", [[], [3, 3], [5, 4], [-1], [-1, 2], [8], [1, 8], [1.0], [True], {"1": 2}, "1", None]
)
def test_anything_else_is_refused(entries: object) -> None:
    with pytest.raises(
        ModelFilesError, match=r"entries\.json is not an array .*, ascending integers from 0 to 7\. "
    ) as told:
        read_entries(Path("entries.json"), json.dumps(entries).encode(), 8)
    assert (told.value.path, told.value.expected) == (Path("entries.json"), "ascending integers from 0 to 7")
