"""Matrix products in int8, by onnxruntime.

Requires a float32 graph. Ensures that every product with a constant matrix has that matrix in int8, symmetric, with a
scale for each column, and quantizes its other side to uint8 as it runs.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from .quiet import quiet


@quiet()
def quantize(graph: Path, quantized: Path) -> Path:
    """Writes `quantized`, and returns it."""
    quantize_dynamic(
        graph,
        quantized,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    return quantized
