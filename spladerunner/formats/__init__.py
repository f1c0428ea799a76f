"""A document or query as one line of a file."""

from __future__ import annotations

import json
from collections.abc import Callable

from spladerunner.vector import SparseVector
from spladerunner.vocabulary import Vocabulary


def _json(name: str, vector: SparseVector, vocabulary: Vocabulary) -> str:
    return json.dumps({"id": name, "vector": vocabulary.weights(vector)}, ensure_ascii=False)


def _indices(name: str, vector: SparseVector, _: Vocabulary) -> str:
    return json.dumps({"id": name, "indices": vector.indices.tolist(), "values": vector.values.tolist()})


FORMATS: dict[str, Callable[[str, SparseVector, Vocabulary], str]] = {"json": _json, "indices": _indices}
