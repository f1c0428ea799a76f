"""A checkpoint to a float32 graph, by optimum: the source of the graph that the passes transform."""

from __future__ import annotations

from pathlib import Path

from optimum.exporters.onnx import main_export

from spladerunner.errors import CheckpointError
from spladerunner.export.passes.contract import Graph, UnmetError, logits
from spladerunner.export.silence import silenced

CONVERTER = "optimum"
"""What converts, for the manifest."""

PACKAGES = ("optimum-onnx",)
"""The packages that it is part of."""


def convert(checkpoint: Path, folder: Path, vocabulary_size: int) -> Graph:
    """Writes folder/model.onnx and the tokenizer's files, and returns the graph.

    Raises CheckpointError if the graph does not have input_ids and logits over at least vocabulary_size tokens.
    """
    with silenced():
        # task and library are given, since optimum guesses wrong for repositories of sentence-transformers
        # (optimum#2327).
        main_export(
            str(checkpoint),
            output=folder,
            task="fill-mask",
            library_name="transformers",
            device="cpu",
            do_validation=False,  # the bundle's graph is verified, on more texts
            local_files_only=True,
            trust_remote_code=False,
        )
    graph = Graph(folder / "model.onnx")
    try:
        size = logits(graph.model).type.tensor_type.shape.dim[2].dim_value
        if size < vocabulary_size:
            raise UnmetError(f"logits of {vocabulary_size} tokens, not of {size}")
    except UnmetError as error:
        raise CheckpointError(
            f"{checkpoint} is not a masked language model: its graph needs {error}.", path=checkpoint
        ) from error
    return graph
