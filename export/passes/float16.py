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
    """Stores weights and computes products in float16, except the sum of the decoder's product and its bias.

    A GPU adds up a float16 product in float32 (CUBLAS_COMPUTE_32F).
    Requires: a float32 graph.
    Ensures: products take float16 matrices; inputs keep their types; outputs are float16.
    """

    name: ClassVar[str] = "float16"

    def requires(self, model: onnx.ModelProto) -> None:
        """Checks that the weights are float32."""
        check_float32(model)

    @silenced()
    def call(self, graph: Graph, target: Path) -> str:
        """Runs onnxruntime's conversion."""
        outputs = {value.name for value in graph.model.graph.output}
        last = [node.name for node in graph.model.graph.node if node.op_type == "Add" and outputs & set(node.output)]
        onnx.save(convert_float_to_float16(graph.model, node_block_list=last), target)
        return ""

    def ensures(self, model: onnx.ModelProto) -> None:
        """Checks the types of the outputs and of the products' matrices."""
        for output in model.graph.output:
            if output.type.tensor_type.elem_type != TensorProto.FLOAT16:
                raise UnmetError(f"float16 outputs, but {output.name} is not")
        float32 = {constant.name for constant in model.graph.initializer if constant.data_type == TensorProto.FLOAT}
        for node in model.graph.node:
            if node.op_type in ("MatMul", "Gemm") and (left := float32 & set(node.input)):
                raise UnmetError(f"float16 products, but {min(left)} is float32")
