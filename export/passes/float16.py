"""Float16 weights and products, for CUDA, by onnxruntime's own tool."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx
from onnx import TensorProto
from onnxruntime.transformers.float16 import convert_float_to_float16

from spladerunner.export.passes.contract import Graph, Pass, UnmetError, check_float32
from spladerunner.export.silence import silenced


@dataclass(frozen=True)
class Float16(Pass):
    """Stores weights and computes products in float16.

    Requires: a float32 graph.
    Ensures: products take float16 matrices; inputs and outputs keep their types.
    """

    name: ClassVar[str] = "float16"

    def requires(self, model: onnx.ModelProto) -> None:
        """Checks that the weights are float32."""
        check_float32(model)

    @silenced()
    def call(self, graph: Graph, target: Path) -> str:
        """Runs onnxruntime's conversion."""
        onnx.save(convert_float_to_float16(graph.model, keep_io_types=True), target)
        return ""

    def ensures(self, model: onnx.ModelProto) -> None:
        """Checks the types of the outputs and of the products' matrices."""
        for output in model.graph.output:
            if output.type.tensor_type.elem_type != TensorProto.FLOAT:
                raise UnmetError(f"float32 outputs, but {output.name} is not")
        float32 = {constant.name for constant in model.graph.initializer if constant.data_type == TensorProto.FLOAT}
        for node in model.graph.node:
            if node.op_type in ("MatMul", "Gemm") and (left := float32 & set(node.input)):
                raise UnmetError(f"float16 products, but {min(left)} is float32")
