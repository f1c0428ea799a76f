"""The checkpoint, the graph, or the token weights that serve each role."""

from __future__ import annotations

from pathlib import Path

import tokenizers

from spladerunner.errors import CheckpointError
from spladerunner.export.gte import refuse_token_head
from spladerunner.export.language_model import LanguageModel
from spladerunner.export.options import ExportOptions
from spladerunner.export.source import SAFETENSORS, SPARSE_LINEAR, Source, find_graph
from spladerunner.export.token_weights import TokenWeights
from spladerunner.export.tokenizer import load_tokenizer, read_tokenizer
from spladerunner.inference.pooling import ACTIVATIONS, POOLINGS
from spladerunner.model.graph import read_or_map
from spladerunner.model.manifest import RoleName
from spladerunner.model.onnx_file import output_rank
from spladerunner.model.registry import find_model, find_published
from spladerunner.model.sentence_transformers import Layout, MaskedLanguageModel, RoleSpec, StaticEmbedding, read_layout
from spladerunner.model.token_weights import IDF

Served = LanguageModel | TokenWeights


def open_roles(doc: Source, query: Source | None, options: ExportOptions) -> dict[RoleName, Served]:
    """Opens the checkpoint, graph or token weights of each role; one object serves both if the model is symmetric.

    The files decide; options.pooling and options.activation decide what the files leave open. Queries are served by
    `query` if given, else by the query model or static embedding that the files of `doc` name, else by weight 1 for
    each token with options.inference_free, else by an idf.json, else by the document model.

    Raises CheckpointError if files and options contradict each other or leave something open.
    """
    _check_options(doc, query, options)
    roles = _open_roles(doc, query, options)
    if options.lexical and (isinstance(roles["query"], TokenWeights) or roles["query"].head == "token"):
        raise CheckpointError(
            f"{(query or doc).name} adds no tokens to queries, which have a weight for each of their own: leave "
            "--lexical out.",
            path=(query or doc).folder,
        )
    return roles


def _open_roles(doc: Source, query: Source | None, options: ExportOptions) -> dict[RoleName, Served]:
    layout = _layout(doc.folder)
    document = layout.doc if layout else _unstated(doc, options)
    if not isinstance(document, MaskedLanguageModel):
        raise CheckpointError(f"{doc.name} has no model for documents.", path=doc.folder, name=doc.name)
    model = _open(document, options, stated=layout is not None)
    if query:
        query_layout = _layout(query.folder)
        question = query_layout.query if query_layout else _unstated(query, options)
        return {"doc": model, "query": _open_query(question, options, stated=query_layout is not None)}
    if layout is not None and layout.query != layout.doc:
        if options.inference_free and isinstance(layout.query, MaskedLanguageModel):
            raise CheckpointError(
                f"{doc.name} has a query model: leave --inference-free out.", path=doc.folder, name=doc.name
            )
        return {"doc": model, "query": _open_query(layout.query, options, stated=True)}
    if options.inference_free:
        return {"doc": model, "query": TokenWeights.of_ones(document.folder, _tokenizer(document.folder, options))}
    idf = doc.folder / IDF
    if layout is None and idf.is_file():
        return {"doc": model, "query": TokenWeights.of_file(idf, _tokenizer(doc.folder, options))}
    return {"doc": model, "query": model}


def _layout(folder: Path) -> Layout | None:
    """The layout that the files of a folder state, None if they state none.

    BGE-M3 has a token head beside modules.json, which describes its dense vectors.
    """
    if (folder / SPARSE_LINEAR).is_file():
        model = MaskedLanguageModel(folder, "max", "relu", head="token")
        return Layout(model, model)
    refuse_token_head(folder)
    return read_layout(folder)


def _unstated(source: Source, options: ExportOptions) -> MaskedLanguageModel:
    """The model of a folder without modules.json.

    Raises CheckpointError if an idf.json or a graph leaves open how to run it. A graph that pools inside does not: an
    export compares the vectors with its output.
    """
    model = MaskedLanguageModel(source.folder)
    if known := find_published(source.name):
        return model._replace(pooling=known.pooling, activation=known.activation)
    if (source.folder / IDF).is_file() and options.activation is None:
        raise CheckpointError(
            f"{source.name} has {IDF} and no modules.json, so its activation is unknown: OpenSearch's v3 models take "
            "the logarithm twice. Give it: --activation log1p_relu, or --activation log1p_log1p_relu.",
            path=source.folder,
            name=source.name,
        )
    missing = [f"--{option}" for option in ("pooling", "activation") if getattr(options, option) is None]
    if options.onnx and missing and _gives_logits(find_graph(source.folder)):
        raise CheckpointError(
            f"{source.name} has a graph, but no modules.json, and does not say how to run it. Give what its authors "
            f"publish: {' and '.join(missing)}. Most SPLADE models have --pooling max and --activation log1p_relu; "
            "OpenSearch's v3 models have --activation log1p_log1p_relu.",
            path=source.folder,
            name=source.name,
        )
    return model


def _gives_logits(graph: Path) -> bool:
    try:
        return output_rank(read_or_map(graph)) == 3
    except ValueError:  # no graph at all, as the export then says
        return False


def _check_options(doc: Source, query: Source | None, options: ExportOptions) -> None:
    if query and options.inference_free:
        raise CheckpointError("A query checkpoint and --inference-free exclude each other: give one of them.")
    if options.lexical and options.inference_free:
        raise CheckpointError("--lexical needs a query model, and --inference-free is for none: give one of them.")
    if options.lexical and options.target == "cuda":
        raise CheckpointError("Queries that keep only their own tokens run on CPUs: leave --lexical or --for cuda out.")
    source = query or doc
    spec = find_model(source.name)
    if spec and spec.lexical and not options.lexical and not options.inference_free:
        raise CheckpointError(
            f"Queries of {source.name} keep only their own tokens, on CPUs: give --lexical, without --for cuda. With "
            "--inference-free instead, each of their tokens weighs 1.",
            path=source.folder,
            name=source.name,
        )
    if options.vocabulary is not None and options.target == "cuda":
        raise CheckpointError("--vocabulary makes decoders for CPUs smaller: leave it or --for cuda out.")
    for option, given, known in (
        ("--pooling", options.pooling, POOLINGS),
        ("--activation", options.activation, ACTIVATIONS),
    ):
        if given is not None and given not in known:
            raise CheckpointError(f"{option} {given} is not known; choose from {', '.join(known)}.")


def _open(model: MaskedLanguageModel, options: ExportOptions, *, stated: bool) -> LanguageModel:
    """Opens a model. stated: its files state pooling and activation, which options must not contradict."""
    for option, given, found in (
        ("pooling", options.pooling, model.pooling),
        ("activation", options.activation, model.activation),
    ):
        if stated and given not in (None, found):
            raise CheckpointError(
                f"{model.folder} states that its {option} is {found}, not {given}: leave --{option} out.",
                path=model.folder,
            )
    model = model._replace(pooling=options.pooling or model.pooling, activation=options.activation or model.activation)
    if model.head == "token":
        return _open_token_head(model, options)
    if options.onnx:
        from spladerunner.export.onnx_model import OnnxModel

        return OnnxModel(model)
    from spladerunner.export.checkpoint import Checkpoint  # imports torch, which a graph does not need

    return Checkpoint(model, allow_pickle=options.allow_pickle)


def _open_token_head(model: MaskedLanguageModel, options: ExportOptions) -> LanguageModel:
    if options.onnx:
        raise CheckpointError(
            f"{model.folder} has a token head in {SPARSE_LINEAR}, and a graph without it: --doc instead of --onnx.",
            path=model.folder,
        )
    if options.target == "cuda":
        raise CheckpointError(
            f"{model.folder} has a token head, which runs on CPUs only: graphs for CUDA pool over the vocabulary. "
            "Leave --for cuda out.",
            path=model.folder,
        )
    if options.vocabulary is not None:
        raise CheckpointError(
            f"{model.folder} has a token head, and so no decoder that could be smaller: leave --vocabulary out.",
            path=model.folder,
        )
    from spladerunner.export.token_head import TokenHeadCheckpoint  # imports torch

    return TokenHeadCheckpoint(model, allow_pickle=options.allow_pickle)


def _open_query(found: RoleSpec, options: ExportOptions, *, stated: bool) -> Served:
    if isinstance(found, StaticEmbedding):
        weights = TokenWeights.of_file(found.folder / SAFETENSORS, _tokenizer(found.folder, options))
        weights.prompt = found.prompt
        return weights
    return _open(found, options, stated=stated)


def _tokenizer(folder: Path, options: ExportOptions) -> tokenizers.Tokenizer:
    return read_tokenizer(folder) if options.onnx else load_tokenizer(folder)
