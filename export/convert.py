"""A checkpoint to a float32 graph, the source of the graph that the passes transform.

There are two ways, by the installed transformers: optimum, which needs transformers 4, or the exporter that is part of
transformers from 5.13 on.
"""

from __future__ import annotations

import inspect
import io
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
import transformers

from spladerunner.errors import CheckpointError
from spladerunner.export.passes.contract import Graph, UnmetError, logits
from spladerunner.export.silence import silenced
from spladerunner.export.standard_form import OPSET, standardize

if TYPE_CHECKING:
    from transformers import PreTrainedModel

if int(transformers.__version__.partition(".")[0]) >= 5:
    import onnx_ir
    from transformers.exporters import OnnxConfig, OnnxExporter

    CONVERTER, PACKAGES = "transformers.exporters", ("onnxscript",)
else:
    from optimum.exporters.onnx import onnx_export_from_model

    CONVERTER, PACKAGES = "optimum", ("optimum-onnx",)
"""Names of the converters, for the manifest, and the packages beside transformers that it uses."""


Task = Literal["fill-mask", "token-classification"]


def convert(checkpoint: Path, model: PreTrainedModel, folder: Path, task: Task, width: int) -> Graph:
    """Writes folder/model.onnx, and returns the graph.

    model: loaded from the checkpoint. task: of its head. width: logits at each position; a vocabulary that is rounded
    up has more. Raises CheckpointError if the graph does not have input_ids and logits of at least that width.
    """
    with silenced():
        if CONVERTER == "optimum":
            _by_optimum(model, folder, task)
        else:
            _by_transformers(model, folder, width)
    graph = Graph(folder / "model.onnx")
    try:
        size = logits(graph.model).type.tensor_type.shape.dim[2].dim_value
        if size < width:
            raise UnmetError(f"logits of {width} tokens, not of {size}")
    except UnmetError as error:
        raise CheckpointError(
            f"{checkpoint} is not a masked language model: its graph needs {error}.", path=checkpoint
        ) from error
    return graph


def _by_optimum(model: PreTrainedModel, folder: Path, task: Task) -> None:
    """Writes the tokenizer's files too."""
    onnx_export_from_model(
        model,
        output=folder,
        task=task,
        device="cpu",
        do_validation=False,  # the bundle's graph is verified, on more texts
    )


def _by_transformers(model: PreTrainedModel, folder: Path, width: int) -> None:
    accepted = inspect.signature(model.forward).parameters
    names = ["input_ids", "attention_mask"]
    if "token_type_ids" in accepted and getattr(model.config, "type_vocab_size", 0) > 1:
        names.append("token_type_ids")
    ids = torch.full((2, 7), (model.config.pad_token_id or 0) + 1)
    values = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    any_length = dict.fromkeys((0, 1), torch.export.Dim.AUTO)
    # Plain attention becomes operators that the pass FuseAttention knows.
    attention = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        with redirect_stdout(io.StringIO()):  # torch prints its progress
            converted = OnnxExporter().export(
                model,
                {name: values[name] for name in names},
                config=OnnxConfig(dynamic=True, dynamic_shapes=dict.fromkeys(names, any_length), opset_version=OPSET),
            )
    finally:
        model.set_attn_implementation(attention)
    made = folder / "made"
    made.mkdir(parents=True, exist_ok=True)
    onnx_ir.save(converted.program, made / "model.onnx", external_data="model.onnx.data")
    standardize(made / "model.onnx", folder / "model.onnx", width)
    shutil.rmtree(made)
