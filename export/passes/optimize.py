"""Exact simplifications by onnxruntime, done once here rather than at every start.

Requires any graph. `optimize` ensures the same outputs from fewer nodes, in standard ONNX operators alone; `fuse` goes
on to onnxruntime's own operators, of any processor.
"""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from spladerunner.inference.session import SLOWER_FUSIONS


def optimize(graph: Path, optimized: Path) -> Path:
    """Writes `optimized`, and returns it."""
    return _save(graph, optimized, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC, ())


def fuse(graph: Path, fused: Path) -> Path:
    """Writes `fused`, and returns it."""
    # Left apart, the embedding's lookup can share its table with the decoder.
    kept_apart = (*SLOWER_FUSIONS, "EmbedLayerNormFusion")
    return _save(graph, fused, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED, kept_apart)


def _save(
    graph: Path, saved: Path, level: onnxruntime.GraphOptimizationLevel, disabled_optimizers: tuple[str, ...]
) -> Path:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(saved)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        str(graph), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(disabled_optimizers)
    )
    return saved
