"""Matrix products in int8, by onnxruntime's dynamic quantization."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic

from spladerunner.export.passes.contract import FilePass, UnmetError, check_float32, logits
from spladerunner.export.silence import silenced

_ARGUMENTS: dict[str, dict[str, bool]] = {
    "a scale for each column": {"per_channel": True},
    "a scale for each column, 7 bits": {"per_channel": True, "reduce_range": True},
    "a scale for each matrix": {"per_channel": False},
}

QUANTIZATIONS = tuple(_ARGUMENTS)
"""In the order in which an export tries them; most models need only the first."""


@dataclass(frozen=True)
class Quantize(FilePass):
    """Stores the matrices of products in int8, but for a token head, whose product takes no time.

    Requires: a float32 graph with products of constant matrices.
    Ensures: each of these matrices is int8, symmetric; the other operand is quantized to uint8 at run time.
    """

    name: ClassVar[str] = "quantize"
    quantization: str = QUANTIZATIONS[0]

    def requires(self, model: onnx.ModelProto) -> None:
        """Checks that the weights are float32, and that there is a product to quantize."""
        logits(model)
        check_float32(model)
        if not _float_products(model):
            raise UnmetError("a product with a constant float32 matrix, but there is none")

    @silenced()
    def run(self, source: Path, target: Path) -> None:
        """Runs onnxruntime's dynamic quantization."""
        products = onnx.load(source, load_external_data=False).graph
        columns = {constant.name for constant in products.initializer if constant.dims[-1:] == [1]}
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=[
                node.name for node in products.node if node.op_type == "MatMul" and node.input[1] in columns
            ],
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
            **_ARGUMENTS[self.quantization],
        )

    def ensures(self, model: onnx.ModelProto) -> None:
        """Checks that no product has a float32 matrix."""
        logits(model)
        if left := _float_products(model):
            raise UnmetError(f"int8 matrices, but {left[0]} is float32")


def _float_products(model: onnx.ModelProto) -> list[str]:
    """Names of the constant float32 matrices of products, of more than one column."""
    matrices = {
        constant.name
        for constant in model.graph.initializer
        if constant.data_type == TensorProto.FLOAT and len(constant.dims) > 1 and constant.dims[-1] > 1
    }
    return [node.input[1] for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in matrices]
