"""Float16, for CUDA, by onnxruntime's own tool.

Requires a float32 graph. Ensures that its weights and its products are float16, and its output float32 as before.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from spladerunner.export.silence import quiet


@quiet()
def halve(graph: Path, halved: Path) -> Path:
    """Writes `halved`, and returns it."""
    onnx.save(convert_float_to_float16(onnx.load(graph), keep_io_types=True), halved)
    return halved
