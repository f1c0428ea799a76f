"""Which checkpoint, or which table, serves documents and which serves queries."""

from __future__ import annotations

from spladerunner.errors import CheckpointError
from spladerunner.export.checkpoint import Checkpoint
from spladerunner.export.source import IDF, Source
from spladerunner.export.token_weights import Table
from spladerunner.inference.pooling import ACTIVATIONS, POOLINGS
from spladerunner.model.manifest import RoleName
from spladerunner.model.sentence_transformers import MaskedLanguageModel, RoleSpec, read_layout


def open_roles(
    doc: Source,
    query: Source | None,
    *,
    inference_free: bool = False,
    pooling: str | None = None,
    activation: str | None = None,
    allow_pickle: bool = False,
) -> dict[RoleName, Checkpoint | Table]:
    """What serves each role; one and the same object serves both where the model is symmetric.

    What the files say holds; pooling and activation settle what they leave open. Queries are served by `query` where
    it is given, else by another model or a static embedding where the files of `doc` name one, else by weight 1 for
    each token where inference_free is set, else by an idf.json, or by the same model.
    Raises CheckpointError where the files and the options contradict each other or leave something open.
    """
    if query and inference_free:
        raise CheckpointError("A query checkpoint and --inference-free exclude each other: give one of them.")
    for name, given, known in (("pooling", pooling, POOLINGS), ("activation", activation, ACTIVATIONS)):
        if given is not None and given not in known:
            raise CheckpointError(f"--{name} {given} is not known; choose from {', '.join(known)}.")

    def model(side: MaskedLanguageModel, *, said: bool) -> Checkpoint:
        return Checkpoint(_settled(side, pooling, activation, said=said), allow_pickle=allow_pickle)

    layout = read_layout(doc.folder)
    doc_side: RoleSpec = layout.doc if layout else MaskedLanguageModel(doc.folder)
    if not isinstance(doc_side, MaskedLanguageModel):
        raise CheckpointError(f"{doc.name} has no model for documents.")
    idf = doc.folder / IDF
    if layout is None and idf.is_file() and activation is None:
        raise CheckpointError(
            f"{doc.name} has {IDF} and no modules.json, so it does not say how logits become weights: OpenSearch's v3 "
            "models take the logarithm twice. Settle it: --activation log1p_relu, or --activation log1p_log1p_relu."
        )
    checkpoint = model(doc_side, said=layout is not None)
    if query:
        query_layout = read_layout(query.folder)
        query_side: RoleSpec = query_layout.query if query_layout else MaskedLanguageModel(query.folder)
        said = query_layout is not None
    elif layout is not None and layout.query != layout.doc:
        if inference_free and isinstance(layout.query, MaskedLanguageModel):
            raise CheckpointError(
                f"{doc.name} says that queries have a model of their own: leave --inference-free out."
            )
        query_side, said = layout.query, True
    elif inference_free:
        return {"doc": checkpoint, "query": Table.of_ones(doc_side.folder)}
    elif layout is None and idf.is_file():
        return {"doc": checkpoint, "query": Table.of_idf(idf)}
    else:
        return {"doc": checkpoint, "query": checkpoint}
    if isinstance(query_side, MaskedLanguageModel):
        return {"doc": checkpoint, "query": model(query_side, said=said)}
    return {"doc": checkpoint, "query": Table.of_static_embedding(query_side.folder)}


def _settled(
    side: MaskedLanguageModel, pooling: str | None, activation: str | None, *, said: bool
) -> MaskedLanguageModel:
    for name, given, found in (("pooling", pooling, side.pooling), ("activation", activation, side.activation)):
        if said and given not in (None, found):
            raise CheckpointError(f"{side.folder} says that its {name} is {found}, not {given}: leave --{name} out.")
    return side._replace(pooling=pooling or side.pooling, activation=activation or side.activation)
