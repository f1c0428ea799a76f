"""Matrix products in int8, by onnxruntime.

Requires a float32 graph. Ensures that every product with a constant matrix has that matrix in int8, symmetric, and
quantizes its other side to uint8 as it runs.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from spladerunner.export.silence import quiet

WAYS: dict[str, dict[str, bool]] = {
    "a scale for each column": {"per_channel": True},
    "a scale for each column, 7 bits": {"per_channel": True, "reduce_range": True},
    "a scale for each matrix": {"per_channel": False},
}
"""In the order in which an export tries them; most models need the first alone."""


@quiet()
def quantize(graph: Path, quantized: Path, way: str = "a scale for each column") -> Path:
    """Writes `quantized`, and returns it."""
    quantize_dynamic(
        graph,
        quantized,
        op_types_to_quantize=["MatMul"],
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
        **WAYS[way],
    )
    return quantized
