"""From a checkpoint to the graph that the runtime opens: the steps in their order."""

from __future__ import annotations

from pathlib import Path

from spladerunner.export.checkpoint import Checkpoint
from spladerunner.export.options import Target
from spladerunner.export.passes.append_pooling import pool_inside
from spladerunner.export.passes.convert import convert
from spladerunner.export.passes.external_data import put_weights_beside
from spladerunner.export.passes.float16 import halve
from spladerunner.export.passes.fuse_attention import fuse_attention
from spladerunner.export.passes.optimize import fuse, optimize
from spladerunner.export.passes.quantize import WAYS, quantize
from spladerunner.export.passes.tie_embedding import quantize_embedding
from spladerunner.export.progress import Progress, step
from spladerunner.model.bundle import TOKENIZER
from spladerunner.model.manifest import RoleName


class Graphs:
    """Makes the graphs of a bundle, one for each checkpoint. What lies between is kept in a folder of its own."""

    def __init__(self, target: Target, bundle: Path, between: Path, progress: Progress) -> None:
        self.ways: list[str] = list(WAYS) if target == "cpu" else [""]
        self._target = target
        self._bundle = bundle
        self._between = between
        self._progress = progress

    def converted(self, role: RoleName) -> Path:
        """The folder of a role's graph as it was converted, model.onnx, and its tokenizer."""
        return self._between / f"{role}-fp32"

    def convert(self, role: RoleName, checkpoint: Checkpoint, vocabulary_size: int) -> Path:
        """The checkpoint's graph in float32, optimized."""
        folder = self.converted(role)
        with step(self._progress, "convert", role) as made:
            made.append(convert(checkpoint.folder, folder, vocabulary_size))
        checkpoint.save_tokenizer(folder / TOKENIZER)
        optimized = self._between / f"{role}-optimized.onnx"
        with step(self._progress, "optimize", role) as made:
            made.append(optimize(folder / "model.onnx", optimized))
        if self._target != "cpu":  # where texts run padded, in batches
            return optimized
        fused = self._between / f"{role}-attention.onnx"
        with step(self._progress, "attention", role) as made:
            made.append(fused)
            if not fuse_attention(optimized, fused, vocabulary_size, checkpoint.positions or checkpoint.max_length):
                self._progress(f"  the {role} model's attention is not BERT's: left as it is")
        return fused

    def finish(self, role: RoleName, checkpoint: Checkpoint, optimized: Path, way: str) -> list[Path]:
        """The role's graph in the bundle, and the files beside it; way: one of `ways`."""
        graph = self._bundle / f"{role}.onnx"
        if self._target != "cpu":
            pooled = self._between / f"{role}-pooled.onnx"
            with step(self._progress, "pool inside", role) as made:
                made.append(pool_inside(optimized, pooled, checkpoint.pooling, checkpoint.activation))
            with step(self._progress, "float16", role) as made:
                made.append(halve(pooled, graph))
            return [graph]
        quantized, fused, shared = (self._between / f"{role}-{name}.onnx" for name in ("quantized", "fused", "shared"))
        with step(self._progress, "quantize", role) as made:
            made.append(quantize(optimized, quantized, way))
        with step(self._progress, "fuse", role) as made:
            made.append(fuse(quantized, fused))
        with step(self._progress, "embedding", role) as made:
            made.append(shared)
            tied = quantize_embedding(fused, shared)
        if not tied:
            self._progress(f"  the {role} model's embedding is not tied to its decoder: two int8 tables")
        return put_weights_beside(shared, graph)
