"""The models that spladerunner knows by name."""

from __future__ import annotations

from typing import NamedTuple

from spladerunner.models import EMBEDDED


class ModelSpec(NamedTuple):
    """A known model.

    name: for Expander. doc, query: the Hub repositories of the checkpoints, equal for a symmetric model; query is None
    if queries need no model. shape: architecture, in words. parameters: of both graphs, in millions. license, score: of
    the weights, as `published` has them; None if they are not found there. onnx: the Hub repository of a graph that is
    ready to run, None if none is known. vocabulary: number of tokens. pooling, activation, head: as in a manifest.
    lexical: queries keep only their own tokens. pickled: the weights are published only as a pickle, which an export
    must be allowed to read. languages: codes of ISO 639-1. published: the page with license and score.

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
    vocabulary: int = 30_522
    pooling: str = "max"
    activation: str = "log1p_relu"
    pickled: bool = False
    languages: tuple[str, ...] = ("en",)
    published: str = ""
    head: str = "masked_lm"
    lexical: bool = False

    @property
    def commercial_use(self) -> bool | None:
        """True if the license allows commercial use; None if the license could not be confirmed.

        >>> [spec.name for spec in list_models() if spec.commercial_use][:2]
        ['tiny-en', 'ibm-granite/granite-embedding-30m-sparse']
        """
        return None if self.license is None else "-nc" not in self.license.lower()

    @property
    def source(self) -> str:
        """The repositories of the weights.

        >>> list_models()[1].source
        'naver/efficient-splade-V-large-doc + naver/efficient-splade-V-large-query'
        """
        return self.doc if self.query in (None, self.doc) else f"{self.doc} + {self.query}"

    @property
    def export_command(self) -> str:
        """The command that makes a bundle of the model.

        >>> print(list_models()[0].export_command)
        spladerunner export --doc ./tiny-en/doc --query ./tiny-en/query -o FOLDER
        """
        query = f" --query {self.query}" if self.query not in (None, self.doc) else ""
        inference_free = " --inference-free" if self.query is None else ""
        lexical = " --lexical" if self.lexical else ""
        allow_pickle = " --allow-pickle" if self.pickled else ""
        return f"spladerunner export --doc {self.doc}{query}{inference_free}{lexical}{allow_pickle} -o FOLDER"

    @property
    def command(self) -> str | None:
        """The command to run before the model can be opened: by its name, or from FOLDER. None for the embedded pair.

        >>> next(spec for spec in list_models() if spec.onnx).command
        'spladerunner fetch prithivida/Splade_PP_en_v1'
        """
        if self.name == EMBEDDED:
            return None
        return f"spladerunner fetch {self.name}" if self.onnx else self.export_command


_APACHE, _NAVER = "Apache-2.0", "CC-BY-NC-SA-4.0"
_OPENSEARCH = "opensearch-project/opensearch-neural-sparse-encoding"
_MIRACL = ("ar", "bn", "en", "es", "fa", "fi", "fr", "hi", "id", "ja", "ko", "ru", "sw", "te", "zh")


def _score(mrr: float | None = None, beir: float | None = None) -> str:
    """Published figures: MRR@10 in percent on MS MARCO's dev queries, and the mean nDCG@10 over 13 sets of BEIR."""
    figures = (mrr and f"MRR@10 {mrr} (MS MARCO dev)", beir and f"nDCG@10 {beir:.3f} (BEIR mean)")
    return ", ".join(figure for figure in figures if figure)


def _symmetric(name: str, shape: str, parameters: float, license: str | None, score: str | None) -> ModelSpec:
    return ModelSpec(name, name, name, shape, parameters, license, score, published=_card(name))


def _inference_free(name: str, shape: str, parameters: float, license: str | None, score: str | None) -> ModelSpec:
    shape = f"{shape}, queries without a model"
    return ModelSpec(name, name, None, shape, parameters, license, score, published=_card(name))


def _pair(name: str, shape: str, parameters: float, score: str) -> ModelSpec:
    doc, query = f"{name}-doc", f"{name}-query"
    return ModelSpec(name, doc, query, shape, parameters, _NAVER, score, published=_card(doc))


def _card(repository: str) -> str:
    return f"https://huggingface.co/{repository}"


_MODELS = (
    ModelSpec(
        EMBEDDED,
        "./tiny-en/doc",
        "./tiny-en/query",
        "BERT pair, 3 and 1 layers, 192 wide",
        9.9,
        _APACHE,
        "nDCG@10 0.609 (SciFact)",
        vocabulary=20_480,
        published="https://spladerunner.github.io/spladerunner/models/",
    ),
    _pair("naver/efficient-splade-V-large", "DistilBERT pair", 134, _score(38.8)),
    _pair("naver/efficient-splade-VI-BT-large", "DistilBERT and BERT-tiny", 71, _score(38.0)),
    _symmetric("naver/splade-v3", "BERT-base", 110, _NAVER, _score(40.2, 0.517))._replace(pickled=True),
    _symmetric("naver/splade-v3-distilbert", "DistilBERT", 67, _NAVER, _score(38.7, 0.500))._replace(pickled=True),
    _symmetric(
        "naver/splade-v3-lexical", "BERT-base, queries keep their own tokens", 110, _NAVER, _score(40.0, 0.491)
    )._replace(pickled=True, lexical=True),
    _inference_free("naver/splade-v3-doc", "BERT-base", 110, _NAVER, _score(37.8, 0.470))._replace(pickled=True),
    _symmetric("naver/splade-cocondenser-ensembledistil", "BERT-base", 110, _NAVER, _score(38.3)),
    _symmetric("naver/splade_v2_distil", "DistilBERT", 67, _NAVER, _score(36.8)),
    _symmetric(
        "ibm-granite/granite-embedding-30m-sparse", "RoBERTa, 6 layers", 30, _APACHE, _score(beir=0.508)
    )._replace(vocabulary=50_265),
    _symmetric("prithivida/Splade_PP_en_v1", "BERT-base", 110, _APACHE, _score(37.2, 0.487))._replace(
        onnx="Qdrant/Splade_PP_en_v1"
    ),
    _symmetric("prithivida/Splade_PP_en_v2", "BERT-base", 110, _APACHE, _score(37.8, 0.494))._replace(pickled=True),
    _symmetric("rasyosef/splade-tiny", "BERT-tiny", 4.4, None, _score(30.9, 0.406)),
    _symmetric("rasyosef/splade-mini", "BERT-mini", 11.2, None, _score(34.1, 0.445)),
    _symmetric("rasyosef/splade-small", "BERT-small", 28.8, None, _score(35.4, 0.466)),
    _symmetric(f"{_OPENSEARCH}-v1", "BERT-base", 133, _APACHE, _score(beir=0.524)),
    _symmetric(f"{_OPENSEARCH}-v2-distill", "DistilBERT", 67, _APACHE, _score(beir=0.528)),
    _inference_free(f"{_OPENSEARCH}-doc-v1", "BERT-base", 133, _APACHE, _score(beir=0.490)),
    _inference_free(f"{_OPENSEARCH}-doc-v2-mini", "MiniLM, 6 layers", 23, _APACHE, _score(beir=0.497)),
    _inference_free(f"{_OPENSEARCH}-doc-v2-distill", "DistilBERT", 67, _APACHE, _score(beir=0.504)),
    _inference_free(f"{_OPENSEARCH}-doc-v3-distill", "DistilBERT", 67, _APACHE, _score(beir=0.517))._replace(
        activation="log1p_log1p_relu"
    ),
    _inference_free(f"{_OPENSEARCH}-doc-v3-gte", "GTE", 137, _APACHE, _score(beir=0.546))._replace(
        activation="log1p_log1p_relu", onnx="Qdrant/opensearch-neural-sparse-encoding-doc-v3-gte"
    ),
    _inference_free(
        f"{_OPENSEARCH}-multilingual-v1", "BERT-base, multilingual", 160, _APACHE, "nDCG@10 0.629 (MIRACL mean)"
    )._replace(vocabulary=105_879, languages=_MIRACL),
    # The score is of the paper, arXiv 2402.03216, table 1; the languages are those of the sets that it is measured on.
    _symmetric("BAAI/bge-m3", "XLM-RoBERTa-large, token head", 568, "MIT", "nDCG@10 0.539 (MIRACL mean)")._replace(
        vocabulary=250_002,
        activation="relu",
        head="token",
        pickled=True,
        languages=tuple(sorted((*_MIRACL, "de", "th", "yo"))),
    ),
    _symmetric("telepix/PIXIE-Splade-Preview", "ModernBERT, 22 layers", 149, _APACHE, None)._replace(
        vocabulary=50_000, languages=("ko",)
    ),
    _symmetric("yjoonjang/splade-ko-v1.0", "ModernBERT, 22 layers", 149, _APACHE, None)._replace(
        vocabulary=50_000, languages=("ko",)
    ),
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


def find_published(repository: str) -> ModelSpec | None:
    """The known model whose graph is in that repository on the Hub."""
    return next((spec for spec in _MODELS if spec.onnx == repository), None)


def close_names(name: str) -> list[str]:
    """Known names similar to an unknown one, best first; empty for a known one."""
    import difflib  # only for a name that is not known

    return [
        found for found in difflib.get_close_matches(name, [spec.name for spec in _MODELS], cutoff=0.4) if found != name
    ]
