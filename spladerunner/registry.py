"""The models that spladerunner knows by name, and where they are."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import spladerunner.models
from spladerunner.errors import UnknownModelError

EMBEDDED = "tiny-en"
"""The pair that ships inside the package."""


@dataclass(frozen=True)
class ModelSpec:
    """A row of the table of known models.

    name: what Expander takes. doc, query: the Hub repositories of the checkpoints, equal where the model is
    symmetric, query None where queries need no model. parameters: of both graphs together, in millions.
    """

    name: str
    doc: str
    query: str | None
    shape: str
    parameters: float
    licence: str

    @property
    def commercial_use(self) -> bool:
        """Whether the licence allows it."""
        return "-nc" not in self.licence.lower()

    @property
    def source(self) -> str:
        """Where the weights come from, in words."""
        return self.doc if self.query in (None, self.doc) else f"{self.doc} + {self.query}"


def _symmetric(name: str, shape: str, parameters: float, licence: str) -> ModelSpec:
    return ModelSpec(name, name, name, shape, parameters, licence)


def _inference_free(name: str, shape: str, parameters: float, licence: str) -> ModelSpec:
    return ModelSpec(name, name, None, shape, parameters, licence)


def _pair(name: str, shape: str, parameters: float, licence: str) -> ModelSpec:
    return ModelSpec(name, f"{name}-doc", f"{name}-query", shape, parameters, licence)


_NAVER = "CC-BY-NC-SA-4.0"
_OPENSEARCH = "opensearch-project/opensearch-neural-sparse-encoding"

_MODELS = (
    ModelSpec(EMBEDDED, "tiny-en/doc", "tiny-en/query", "BERT 3 + 1 layers, 192", 9.9, "Apache-2.0"),
    _pair("naver/efficient-splade-V-large", "DistilBERT pair", 134, _NAVER),
    _pair("naver/efficient-splade-VI-BT-large", "DistilBERT + BERT-tiny", 71, _NAVER),
    _symmetric("naver/splade-v3-distilbert", "DistilBERT", 67, _NAVER),
    _symmetric("naver/splade-cocondenser-ensembledistil", "BERT-base", 110, _NAVER),
    _symmetric("naver/splade_v2_distil", "DistilBERT", 67, _NAVER),
    _symmetric("prithivida/Splade_PP_en_v1", "BERT-base", 110, "Apache-2.0"),
    _symmetric("rasyosef/splade-tiny", "BERT-tiny", 4.4, "MIT"),
    _symmetric("rasyosef/splade-mini", "BERT-mini", 11.2, "MIT"),
    _symmetric("rasyosef/splade-small", "BERT-small", 28.8, "MIT"),
    _inference_free("naver/splade-v3-doc", "BERT-base, queries without a model", 110, _NAVER),
    _inference_free(f"{_OPENSEARCH}-doc-v2-distill", "DistilBERT, queries without a model", 67, "Apache-2.0"),
    _inference_free(f"{_OPENSEARCH}-doc-v3-distill", "DistilBERT, queries without a model", 67, "Apache-2.0"),
)


def list_models() -> list[ModelSpec]:
    """The known models, the embedded pair first."""
    return list(_MODELS)


def embedded_folder() -> Path:
    """Where the embedded pair's bundle is."""
    return Path(spladerunner.models.__path__[0]) / EMBEDDED


def locate(model: str | PathLike[str]) -> Path:
    """The folder of a model: the embedded pair by its name, any other by its path.

    Raises UnknownModelError where there is no such folder; the message has the close matches, or the command that
    makes a known model's bundle.
    """
    if model == EMBEDDED:
        return embedded_folder()
    if Path(model).is_dir():
        return Path(model)
    name = str(model)
    for spec in _MODELS:
        if spec.name == name:
            raise UnknownModelError(
                f"{name} is not on this machine. Download its checkpoints ({spec.source}), make a bundle of them with: "
                "spladerunner export --doc CHECKPOINT --query CHECKPOINT -o FOLDER, and give the folder."
            )
    close = difflib.get_close_matches(name, [spec.name for spec in _MODELS], cutoff=0.4)
    hint = f" Close to it: {', '.join(close)}." if close else ""
    raise UnknownModelError(
        f"There is no folder {name!r} and no known model of that name.{hint} `spladerunner models` lists them."
    )
