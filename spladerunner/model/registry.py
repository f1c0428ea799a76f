"""The models that spladerunner knows by name."""

from __future__ import annotations

from typing import NamedTuple

from spladerunner.models import EMBEDDED


class ModelSpec(NamedTuple):
    """A known model.

    name: for Expander. doc, query: the Hub repositories of the checkpoints, equal for a symmetric model; query is None
    if queries need no model. shape: architecture, in words. parameters: of both graphs, in millions. license, score: of
    the weights, as their authors publish them; None if not confirmed. onnx: the Hub repository of a graph that is ready
    to run, None if none is known.

    >>> from spladerunner import list_models
    >>> list_models()[0].license
    'Apache-2.0'
    """

    name: str
    doc: str
    query: str | None
    shape: str
    parameters: float
    license: str | None
    score: str | None
    onnx: str | None = None

    @property
    def commercial_use(self) -> bool | None:
        """True if the license allows commercial use; None if the license could not be confirmed.

        >>> [spec.name for spec in list_models() if spec.commercial_use][:2]
        ['tiny-en', 'prithivida/Splade_PP_en_v1']
        """
        return None if self.license is None else "-nc" not in self.license.lower()

    @property
    def source(self) -> str:
        """The repositories of the weights.

        >>> list_models()[0].source
        'tiny-en/doc + tiny-en/query'
        """
        return self.doc if self.query in (None, self.doc) else f"{self.doc} + {self.query}"

    @property
    def export_command(self) -> str:
        """The command that makes a bundle of the model.

        >>> print(list_models()[0].export_command)
        spladerunner export --doc tiny-en/doc --query tiny-en/query -o FOLDER
        """
        query = f" --query {self.query}" if self.query not in (None, self.doc) else ""
        inference_free = " --inference-free" if self.query is None else ""
        return f"spladerunner export --doc {self.doc}{query}{inference_free} -o FOLDER"


_NAVER = "CC-BY-NC-SA-4.0"
_OPENSEARCH = "opensearch-project/opensearch-neural-sparse-encoding"


def _mrr(figure: float) -> str:
    return f"MRR@10 {figure} (MS MARCO dev)"


def _beir(figure: float) -> str:
    return f"nDCG@10 {figure} (BEIR mean)"


def _symmetric(
    name: str, shape: str, parameters: float, license: str | None, score: str | None, onnx: str | None = None
) -> ModelSpec:
    return ModelSpec(name, name, name, shape, parameters, license, score, onnx)


def _inference_free(name: str, shape: str, parameters: float, license: str | None, score: str | None) -> ModelSpec:
    return ModelSpec(name, name, None, f"{shape}, queries without a model", parameters, license, score)


def _pair(name: str, shape: str, parameters: float, license: str | None, score: str | None) -> ModelSpec:
    return ModelSpec(name, f"{name}-doc", f"{name}-query", shape, parameters, license, score)


_MODELS = (
    ModelSpec(
        EMBEDDED,
        "tiny-en/doc",
        "tiny-en/query",
        "BERT pair, 3 and 1 layers, 192 wide",
        9.9,
        "Apache-2.0",
        "nDCG@10 0.609 (SciFact)",
    ),
    _pair("naver/efficient-splade-V-large", "DistilBERT pair", 134, _NAVER, _mrr(38.8)),
    _pair("naver/efficient-splade-VI-BT-large", "DistilBERT and BERT-tiny", 71, _NAVER, _mrr(38.0)),
    _symmetric("naver/splade-v3-distilbert", "DistilBERT", 67, _NAVER, _mrr(38.7)),
    _symmetric("naver/splade-cocondenser-ensembledistil", "BERT-base", 110, _NAVER, _mrr(38.3)),
    _symmetric("naver/splade_v2_distil", "DistilBERT", 67, _NAVER, _mrr(36.8)),
    _symmetric("prithivida/Splade_PP_en_v1", "BERT-base", 110, "Apache-2.0", None, onnx="Qdrant/Splade_PP_en_v1"),
    _symmetric("rasyosef/splade-tiny", "BERT-tiny", 4.4, None, _mrr(30.9)),
    _symmetric("rasyosef/splade-mini", "BERT-mini", 11.2, None, _mrr(34.1)),
    _symmetric("rasyosef/splade-small", "BERT-small", 28.8, None, _mrr(35.4)),
    _inference_free("naver/splade-v3-doc", "BERT-base", 110, _NAVER, None),
    _inference_free(f"{_OPENSEARCH}-doc-v2-distill", "DistilBERT", 67, "Apache-2.0", _beir(0.504)),
    _inference_free(f"{_OPENSEARCH}-doc-v3-distill", "DistilBERT", 67, "Apache-2.0", _beir(0.517)),
)


def list_models() -> list[ModelSpec]:
    """The known models, the embedded pair first.

    >>> list_models()[0].name
    'tiny-en'
    """
    return list(_MODELS)


def find_model(name: str) -> ModelSpec | None:
    """The known model of that name, with its owner or without, as in SPLADERunner 0.1."""
    return next((spec for spec in _MODELS if name in (spec.name, spec.name.rpartition("/")[2])), None)


def close_names(name: str) -> list[str]:
    """Known names similar to an unknown one, best first; empty for a known one."""
    import difflib  # only for a name that is not known

    return [
        found for found in difflib.get_close_matches(name, [spec.name for spec in _MODELS], cutoff=0.4) if found != name
    ]
