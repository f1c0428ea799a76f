"""Checkpoint to ONNX in float32, by optimum.

Requires a folder with a masked language model. Ensures a graph from input_ids to logits over the whole vocabulary.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from optimum.exporters.onnx import main_export

from spladerunner.errors import CheckpointError
from spladerunner.export.silence import quiet


@quiet()
def convert(checkpoint: Path, folder: Path, vocabulary_size: int) -> Path:
    """Writes folder/model.onnx, beside the tokenizer's files, and returns it."""
    # Both are asked for by name: optimum guesses wrong for repositories of sentence-transformers (optimum#2327).
    main_export(
        str(checkpoint),
        output=folder,
        task="fill-mask",
        library_name="transformers",
        device="cpu",
        do_validation=False,  # the whole bundle is verified, on more texts
        local_files_only=True,
        trust_remote_code=False,
    )
    graph = folder / "model.onnx"
    model = onnx.load(graph, load_external_data=False)
    inputs = [node.name for node in model.graph.input]
    shape = [axis.dim_param or axis.dim_value for axis in model.graph.output[0].type.tensor_type.shape.dim]
    if "input_ids" not in inputs or len(shape) != 3 or shape[2] < vocabulary_size:
        raise CheckpointError(
            f"{checkpoint} was converted to a graph with the inputs {inputs} and an output of shape {shape}, where "
            f"input_ids and logits (batch, length, {vocabulary_size}) are needed: it is no masked language model."
        )
    return graph
