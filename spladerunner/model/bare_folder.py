"""Opens a folder without a manifest: what lies beside the graph says how to run it, or the caller does.

Nothing is guessed. Pooling and activation come from modules.json, from the name of a known repository, or from the
caller; so does what serves queries, which an idf.json says too. What all of them leave open is an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from spladerunner.errors import ModelFilesError
from spladerunner.inference.pooling import ACTIVATIONS, POOLINGS
from spladerunner.log import debug
from spladerunner.model.bundle import TOKENIZER, Bundle, choose_graph
from spladerunner.model.content import is_there
from spladerunner.model.graph import read_graph, read_or_map
from spladerunner.model.manifest import MANIFEST, QUERIES, GraphRole, Role, RoleName, TokenWeightsRole
from spladerunner.model.registry import find_published
from spladerunner.model.sentence_transformers import (
    MODULES,
    Layout,
    MaskedLanguageModel,
    StaticEmbedding,
    read_layout,
)
from spladerunner.model.token_weights import IDF, ONES
from spladerunner.model.transformers_files import read_max_length

_ON_THE_COMMAND_LINE = {"query": "queries"}


class Interpretation(NamedTuple):
    """Settings to run a graph whose folder has no manifest; None where the files say it.

    pooling, activation: names in POOLINGS and ACTIVATIONS. query: one of QUERIES.
    """

    pooling: str | None = None
    activation: str | None = None
    query: str | None = None

    def check(self, stated_by: Path, doc: Role) -> None:
        """Raises ModelFilesError if it contradicts a file that states pooling and activation, and serves queries."""
        found = (doc.pooling, doc.activation) if isinstance(doc, GraphRole) else (None, None)
        for option, given, stated in zip(self._fields, self, (*found, None), strict=True):
            if given not in (None, stated):
                raise ModelFilesError(
                    f"{stated_by} says {f'that the {option} is {stated}' if stated else 'what serves queries'}: leave "
                    f"{option}={given!r} out.",
                    path=stated_by,
                    expected=stated,
                    found=given,
                )


def open_bare_folder(folder: Path, interpretation: Interpretation | None = None) -> Bundle:
    """Opens a folder with tokenizer.json and a graph.

    Raises ModelFilesError if it has neither, its files are not valid or leave something open, or the interpretation
    contradicts them.
    """
    given = interpretation or Interpretation()
    name = choose_graph([path.relative_to(folder).as_posix() for path in _graphs(folder)])
    if name is None or not is_there(folder / TOKENIZER):
        raise ModelFilesError(
            f"{folder} has no model: neither {MANIFEST}, nor {TOKENIZER} with model.onnx or onnx/model*.onnx. "
            "Make a bundle of a checkpoint: spladerunner export --doc CHECKPOINT -o FOLDER",
            path=folder,
        )
    layout = read_layout(folder)
    roles = _stated(folder, name, layout, given) if layout else _unstated(folder, name, given)
    debug(__name__, "%s has no manifest: %s serves documents, with %s; queries: %s", folder, name, *roles.values())
    return Bundle(folder, folder.resolve().name, "unknown", roles)


def _graphs(folder: Path) -> Iterable[Path]:
    return [*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx")]


def _stated(folder: Path, graph: str, layout: Layout, given: Interpretation) -> dict[RoleName, Role]:
    """The roles by modules.json, which options may only repeat."""
    model = layout.doc
    if not isinstance(model, MaskedLanguageModel) or not (
        layout.query == model._replace(prompt=layout.query.prompt) or isinstance(layout.query, StaticEmbedding)
    ):
        raise ModelFilesError(
            f"{folder} has different models for documents and queries, but one graph. "
            f"Make a bundle of it: spladerunner export --doc {folder} -o FOLDER",
            path=folder,
        )
    length = read_max_length(folder, model.max_length)
    doc = GraphRole(graph, length, model.pooling, model.activation, prompt=model.prompt)
    given.check(folder / MODULES, doc)
    if isinstance(layout.query, StaticEmbedding):
        weights = (layout.query.folder / "model.safetensors").relative_to(folder).as_posix()
        return {"doc": doc, "query": TokenWeightsRole(weights, length, prompt=layout.query.prompt)}
    return {"doc": doc, "query": GraphRole(graph, length, model.pooling, model.activation, prompt=layout.query.prompt)}


def _unstated(folder: Path, graph: str, given: Interpretation) -> dict[RoleName, Role]:
    """The roles of a folder without modules.json: a known repository, an idf.json, and options say how to run it."""
    known = find_published(_repository(folder) or "")
    if known:
        given = Interpretation(
            given.pooling or known.pooling,
            given.activation or known.activation,
            given.query or ("model" if known.query == known.doc else None),
        )
    if given.query is None and is_there(folder / IDF):
        given = given._replace(query="idf")
    if (given.pooling is None or given.activation is None) and read_graph(
        folder, graph, lambda name: read_or_map(folder / name)
    ).pools_inside:
        given = given._replace(pooling=given.pooling or "max", activation=given.activation or "relu")
    if open_options := [option for option, value in zip(given._fields, given, strict=True) if value is None]:
        known_values = {"pooling": POOLINGS, "activation": tuple(ACTIVATIONS), "query": QUERIES}
        needed = "; ".join(
            f"{option}= or --{_ON_THE_COMMAND_LINE.get(option, option)}, one of {', '.join(known_values[option])}"
            for option in open_options
        )
        raise ModelFilesError(
            f"{folder} has a graph, but neither {MANIFEST} nor {MODULES}, and does not say how to run it. Give what "
            f"its authors publish: {needed}. Most SPLADE models have pooling max, activation log1p_relu and query "
            "model; OpenSearch's v3 models have activation log1p_log1p_relu.",
            path=folder,
            expected=open_options,
        )
    assert given.pooling and given.activation
    length = read_max_length(folder)
    doc = GraphRole(graph, length, given.pooling, given.activation)
    if given.query == "model":
        return {"doc": doc, "query": doc}
    if given.query == "idf" and not is_there(folder / IDF):
        raise ModelFilesError(f"{folder} has no {IDF}, which query='idf' reads.", path=folder / IDF)
    return {"doc": doc, "query": TokenWeightsRole(IDF if given.query == "idf" else ONES, length)}


def _repository(folder: Path) -> str | None:
    """The repository of a folder in huggingface_hub's cache, models--OWNER--NAME/snapshots/COMMIT; None elsewhere."""
    parts = folder.parts
    if len(parts) < 3 or parts[-2] != "snapshots" or not parts[-3].startswith("models--"):
        return None
    return parts[-3].removeprefix("models--").replace("--", "/", 1)
