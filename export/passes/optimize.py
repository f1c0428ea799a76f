"""Exact simplifications by onnxruntime, done once at export rather than at every start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx
import onnxruntime

from spladerunner.export.passes.contract import FilePass, UnmetError, logits, operators
from spladerunner.inference.session import SLOWER_FUSIONS

FUSED_PRODUCTS = ("DynamicQuantizeMatMul", "MatMulIntegerToFloat")
"""Names of int8 products after their fusion."""


@dataclass(frozen=True)
class Optimize(FilePass):
    """Removes redundant nodes.

    Requires: a masked language model, from input_ids to logits.
    Ensures: the same outputs, by standard ONNX operators.
    """

    name: ClassVar[str] = "optimize"

    def requires(self, model: onnx.ModelProto) -> None:
        """Checks that the graph is a masked language model."""
        logits(model)

    def run(self, source: Path, target: Path) -> None:
        """Runs onnxruntime's basic optimizations."""
        _optimize(source, target, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC, ())

    def ensures(self, model: onnx.ModelProto) -> None:
        """Checks the outputs and the domains of the operators."""
        logits(model)
        if other := {node.domain for node in model.graph.node} - {"", "ai.onnx"}:
            raise UnmetError(f"standard ONNX operators, but some are of {sorted(other)}")


@dataclass(frozen=True)
class FuseOperators(FilePass):
    """Fuses operators into onnxruntime's own ones, as any processor has them.

    Requires: int8 products, as quantized by onnxruntime.
    Ensures: the same outputs, with quantization, product and scale in one operator.
    """

    name: ClassVar[str] = "fuse operators"

    def requires(self, model: onnx.ModelProto) -> None:
        """Checks that there is an int8 product."""
        if "MatMulInteger" not in operators(model):
            raise UnmetError("int8 products, but there is no MatMulInteger")

    def run(self, source: Path, target: Path) -> None:
        """Runs onnxruntime's extended optimizations, except those that are slower or hide the embedding's lookup."""
        # TieEmbedding needs the lookup as a separate operator.
        disabled = (*SLOWER_FUSIONS, "EmbedLayerNormFusion")
        _optimize(source, target, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED, disabled)

    def ensures(self, model: onnx.ModelProto) -> None:
        """Checks that products are fused, and that the slower fusions were left out."""
        found = operators(model)
        if not found & set(FUSED_PRODUCTS):
            raise UnmetError(f"fused int8 products, but there is none of {FUSED_PRODUCTS}")
        if "SkipLayerNormalization" in found:
            raise UnmetError("sums apart from layer normalizations, but there is a SkipLayerNormalization")


def _optimize(source: Path, target: Path, level: onnxruntime.GraphOptimizationLevel, disabled: tuple[str, ...]) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        str(source), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(disabled)
    )
