"""A published ONNX graph: its tokenizer, and the weights of a text by the graph as it was published.

Nothing here, nor in what the export of a graph imports, needs torch, transformers or optimum.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx.external_data_helper import uses_external_data

from spladerunner.errors import CheckpointError
from spladerunner.export.language_model import check_vocabulary
from spladerunner.export.passes.contract import Graph
from spladerunner.export.silence import silenced
from spladerunner.export.source import find_graph
from spladerunner.export.standard_form import standardize, weight_type
from spladerunner.export.tokenizer import read_tokenizer, save_tokenizer, special_ids
from spladerunner.inference.arena import products_saturate
from spladerunner.inference.session import SLOWER_FUSIONS
from spladerunner.model.sentence_transformers import MaskedLanguageModel
from spladerunner.model.transformers_files import DEFAULT, read_positions, read_tokenizer_length

_ACTIVATIONS: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "relu": lambda logits: np.maximum(logits, 0),
    "log1p_relu": lambda logits: np.log1p(np.maximum(logits, 0)),
    "log1p_log1p_relu": lambda logits: np.log1p(np.log1p(np.maximum(logits, 0))),
}


class OnnxModel:
    """A LanguageModel in a folder with a graph and tokenizer.json, as optimum, FastEmbed and others publish it.

    max_length: the least that its layout, its tokenizer and its model allow; 512, as of BERT, if none says so.

    Raises CheckpointError if the folder lacks either, or the graph has data outside its folder.
    """

    head = "masked_lm"
    converter = "as published"
    tools: tuple[str, ...] = ("tokenizers",)

    @silenced()
    def __init__(self, model: MaskedLanguageModel) -> None:
        self.folder = folder = model.folder
        self.pooling, self.activation, self.prompt = model.pooling, model.activation, model.prompt
        self.path = find_graph(folder)
        self._tokenizer = read_tokenizer(folder)
        self.vocabulary_size = self._tokenizer.get_vocab_size()
        self.positions = read_positions(folder)
        lengths = (model.max_length, read_tokenizer_length(folder), self.positions)
        self.max_length = min((length for length in lengths if length is not None), default=DEFAULT)
        try:
            outline = onnx.load(self.path, load_external_data=False)
        except Exception as error:  # protobuf's errors share no narrower type
            raise CheckpointError(f"{self.path} cannot be read as an ONNX graph: {error}", path=self.path) from error
        self._data = _external_data(self.path, outline)
        self.weight_type = weight_type(outline)
        self.quantization: str | None = None if self.weight_type == "float32" else "as published"

    def save_tokenizer(self, path: Path) -> None:
        """Writes tokenizer.json."""
        save_tokenizer(self._tokenizer, path)

    def convert(self, folder: Path) -> Graph:
        """Writes folder/model.onnx: in standard form, or as it is if it was quantized already."""
        # The Hub's cache holds links, which ONNX does not follow for weights beside a graph.
        published = folder / "published"
        published.mkdir(parents=True)
        for name in (self.path.name, *self._data):
            shutil.copyfile(self.path.parent / name, published / name)
        target = folder / "model.onnx"
        if self.quantization:
            onnx.save(onnx.load(published / self.path.name), target)
            graph = Graph(target)
        else:
            graph = standardize(published / self.path.name, target, self.vocabulary_size)
            rows = graph.model.graph.output[0].type.tensor_type.shape.dim[2].dim_value
            check_vocabulary(self.folder, tokens=self.vocabulary_size, rows=rows)
        shutil.rmtree(published)
        return graph

    def weights_of(self, texts: Iterable[str], max_length: int) -> Iterator[NDArray[np.float32]]:
        """Weights by the graph as published, float32, one text at a time: a (V,) array each.

        weight = max, or sum, over tokens of activation(logit); what the graph gives, if it pools inside. Special tokens
        get 0.
        """
        special = special_ids(self._tokenizer)
        self._tokenizer.enable_truncation(max_length)
        for text in texts:
            encoding = self._tokenizer.encode(text)
            weights = self._weigh(np.array([encoding.ids]), np.array([encoding.type_ids]))
            weights[special] = 0
            yield weights

    def _weigh(self, ids: NDArray[np.int64], type_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        mask = np.ones_like(ids)
        values = {
            **{"input_ids": ids, "attention_mask": mask, "token_type_ids": type_ids},
            **{"input_mask": mask, "segment_ids": type_ids},
        }
        feeds = {
            given.name: values[given.name].astype(np.int32 if "int32" in given.type else np.int64)
            for given in self._session.get_inputs()
        }
        outputs = self._session.run(None, feeds)
        names = [output.name for output in self._session.get_outputs()]
        weights = np.zeros(self.vocabulary_size, dtype=np.float32)
        if {"output_idx", "output_weights"} <= {*names}:  # Anserini's: the weights that are not zero, and their tokens
            weights[outputs[names.index("output_idx")]] = outputs[names.index("output_weights")]
        elif outputs[0].ndim == 2:
            weights[:] = outputs[0][0, : weights.size]
        else:
            activated = _ACTIVATIONS[self.activation](outputs[0][0, :, : weights.size].astype(np.float32))
            weights[:] = activated.max(axis=0) if self.pooling == "max" else activated.sum(axis=0)
        return weights

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if products_saturate():
            options.add_session_config_entry("session.x64quantprecision", "1")
        # Optimized as the runtime does: a graph that is int8 already would round otherwise.
        return onnxruntime.InferenceSession(
            str(self.path), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(SLOWER_FUSIONS)
        )


def _external_data(path: Path, model: onnx.ModelProto) -> list[str]:
    """Names of the files that hold weights of a graph. Raises CheckpointError if one is not beside it."""
    names = {
        entry.value
        for constant in model.graph.initializer
        if uses_external_data(constant)
        for entry in constant.external_data
        if entry.key == "location"
    }
    for name in names:
        if Path(name).name != name or not (path.parent / name).is_file():
            raise CheckpointError(f"{path} keeps weights in {name!r}, which is not a file beside it.", path=path)
    return sorted(names)
