"""The contract of a graph pass: requires, call, ensures, and whether it changed the graph.

The contract is that of onnx/ir-py's passes, between files: onnxruntime's tools read and write files, and a graph of a
large model is in memory once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, NamedTuple

import onnx
from onnx import TensorProto
from onnx.external_data_helper import uses_external_data

from spladerunner.errors import CheckpointError


class UnmetError(Exception):
    """A condition of a pass that a graph does not meet. Its message completes "The pass requires"."""


class Graph:
    """An ONNX file. Its content is loaded at first use, without external data, and kept until release."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._model: onnx.ModelProto | None = None

    @property
    def model(self) -> onnx.ModelProto:
        """The content of the file."""
        if self._model is None:
            self._model = onnx.load(self.path, load_external_data=False)
        return self._model

    @property
    def size(self) -> int:
        """Bytes of the file and of its external data beside it."""
        return sum(path.stat().st_size for path in self.path.parent.glob(f"{self.path.name}*"))

    def release(self) -> None:
        """Frees the content; the next use loads the file again."""
        self._model = None

    def outline(self) -> object:
        """Inputs, outputs, operators, and type and location of each constant; compared to find changes."""
        graph = self.model.graph
        return (
            [value.name for value in graph.input],
            [value.name for value in graph.output],
            [(node.domain, node.op_type) for node in graph.node],
            sorted((constant.name, constant.data_type, constant.data_location) for constant in graph.initializer),
        )


class Result(NamedTuple):
    """The graph that a pass wrote, whether it differs from the one before, and a note for progress lines or ""."""

    graph: Graph
    changed: bool
    note: str


class Pass(ABC):
    """One transformation of a graph.

    Subclasses are frozen dataclasses, so that two passes with the same options are equal.
    name: for progress lines, errors and the picture in the README.
    """

    name: ClassVar[str]
    reads_external_data: ClassVar[bool] = False

    def __call__(self, graph: Graph, target: Path) -> Result:
        """Writes the transformed graph to target.

        Raises CheckpointError with the pass's name and the condition if the graph does not meet what the pass
        requires, or the written one does not meet what it ensures.
        """
        self._check("requires", self._requires, graph)
        before = graph.outline()
        note = self.call(graph, target)
        graph.release()  # call may have edited the content
        made = Graph(target)
        self._check("ensures", self.ensures, made)
        return Result(made, made.outline() != before, note)

    @abstractmethod
    def requires(self, model: onnx.ModelProto) -> None:
        """Checks the graph before the pass. Raises UnmetError with the condition that it does not meet."""

    @abstractmethod
    def call(self, graph: Graph, target: Path) -> str:
        """Writes the transformed graph to target; may edit graph.model. Returns a note for progress lines, or ""."""

    @abstractmethod
    def ensures(self, model: onnx.ModelProto) -> None:
        """Checks the graph after the pass. Raises UnmetError with the condition that it does not meet."""

    def _requires(self, model: onnx.ModelProto) -> None:
        if not self.reads_external_data and any(map(uses_external_data, model.graph.initializer)):
            raise UnmetError("weights inside the file, but they are external data")
        self.requires(model)

    def _check(self, verb: str, condition: Callable[[onnx.ModelProto], None], graph: Graph) -> None:
        try:
            condition(graph.model)
        except UnmetError as error:
            raise CheckpointError(
                f"The pass '{self.name}' {verb} {error} ({graph.path.name}).", path=graph.path
            ) from error


class FilePass(Pass):
    """A pass by a tool that reads a file and writes another."""

    reads_external_data: ClassVar[bool] = True

    def call(self, graph: Graph, target: Path) -> str:
        """Runs the tool without the graph's content in memory."""
        graph.release()
        self.run(graph.path, target)
        return ""

    @abstractmethod
    def run(self, source: Path, target: Path) -> None:
        """Runs the tool."""


def logits(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """The output of a masked language model. Raises UnmetError without input_ids and logits (B, L, V), V known."""
    inputs = [value.name for value in model.graph.input]
    output: onnx.ValueInfoProto = model.graph.output[0]
    shape = [axis.dim_param or axis.dim_value for axis in output.type.tensor_type.shape.dim]
    if "input_ids" not in inputs or len(shape) != 3 or not isinstance(shape[2], int):
        raise UnmetError(f"input_ids and logits (B, L, V), not inputs {inputs} and an output of shape {shape}")
    return output


def int8_decoder(graph: onnx.GraphProto, output: str) -> onnx.NodeProto:
    """The fused int8 product that gives the logits. Raises UnmetError if another operator gives them."""
    for node in graph.node:
        if output in node.output:
            if node.op_type == "DynamicQuantizeMatMul":
                return node
            raise UnmetError(f"logits by a DynamicQuantizeMatMul, but {node.op_type} gives them")
    raise UnmetError("an operator that gives the logits, but there is none")


def check_float32(model: onnx.ModelProto) -> None:
    """Raises UnmetError if a constant is quantized or float16; an embedding, which is looked up, may be."""
    looked_up = {node.input[0] for node in model.graph.node if node.op_type == "Gather"}
    for constant in model.graph.initializer:
        if constant.name not in looked_up and constant.data_type in (
            TensorProto.INT8,
            TensorProto.UINT8,
            TensorProto.FLOAT16,
        ):
            raise UnmetError(f"float32 weights, but {constant.name} is {TensorProto.DataType.Name(constant.data_type)}")


def operators(model: onnx.ModelProto) -> set[str]:
    """Names of the operators in a graph."""
    return {node.op_type for node in model.graph.node}
