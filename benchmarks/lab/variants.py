"""Variants of the exported graph that the passes of the export build."""

from __future__ import annotations

from pathlib import Path

from benchmarks.workload import FP32


def build_masked(models: Path, folder: Path) -> Path:
    """Runs the passes of the export without FuseAttention and DecodeRows, for padded batches; returns the graph.

    folder: receives the graph of each pass, such as quantize.onnx.
    """
    from spladerunner.export.passes import Graph, passes
    from spladerunner.export.passes.decode_rows import DecodeRows
    from spladerunner.export.passes.fuse_attention import FuseAttention

    folder.mkdir(parents=True, exist_ok=True)
    graph = Graph(models / FP32 / "model.onnx")
    for each in passes("cpu", positions=0):  # FuseAttention alone reads the positions
        if not isinstance(each, (FuseAttention, DecodeRows)):
            graph = each(graph, folder / f"{each.name.replace(' ', '-')}.onnx").graph
    return graph.path
