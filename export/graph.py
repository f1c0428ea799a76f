"""From a model to its graph in a bundle: one conversion, then the passes of the target."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import takewhile
from pathlib import Path

from spladerunner.export.language_model import LanguageModel
from spladerunner.export.options import Target
from spladerunner.export.passes import QUANTIZATIONS, Graph, Pass, passes
from spladerunner.export.progress import Progress, stage
from spladerunner.model.manifest import RoleName


class GraphBuilder:
    """Builds graphs of one model, and keeps the intermediate ones in a folder, which must exist.

    They are convert/model.onnx, then one for each pass but the last, as fuse-attention.onnx.
    role: for progress lines and errors.
    """

    def __init__(self, model: LanguageModel, role: RoleName, folder: Path, progress: Progress) -> None:
        self._role: RoleName = role
        self._folder = folder
        self._progress = progress
        self._done: list[tuple[Pass, Graph]] = []
        with stage(progress, "convert", role) as done:
            self.converted = model.convert(folder / "convert")
            done.size = self.converted.size

    def build(self, wanted: Sequence[Pass], output: Path) -> None:
        """Runs passes, the last one into output. Leading passes that the previous call ran are not run again."""
        pairs = zip((done for done, _ in self._done), wanted[:-1], strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        del self._done[same:]
        graph = self._done[-1][1] if self._done else self.converted
        for each in wanted[same:]:
            target = output if each is wanted[-1] else self._folder / f"{each.name.replace(' ', '-')}.onnx"
            with stage(self._progress, each.name, self._role) as done:
                graph, changed, done.note = each(graph, target)
                done.size, done.unchanged = graph.size, not changed
            if target != output:
                self._done.append((each, graph))


def build_graph(model: LanguageModel, output: Path, *, target: Target = "cpu", keep: Path | None = None) -> Path:
    """Writes the graph of a bundle, with its external data beside it, without verification; returns output.

    keep: a folder for the intermediate graphs: convert/model.onnx beside the tokenizer's files, then one for each pass
        but the last, as optimize.onnx and fuse-attention.onnx. They are deleted by default.

    Raises CheckpointError if the checkpoint cannot be exported.
    """
    with nullcontext(keep) if keep else tempfile.TemporaryDirectory(dir=output.parent) as folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        builder = GraphBuilder(model, "doc", Path(folder), lambda _: None)
        builder.build(passes_of(model, target), output)
    return output


def passes_of(
    model: LanguageModel,
    target: Target,
    quantization: str = QUANTIZATIONS[0],
    entries: tuple[int, ...] | None = None,
) -> tuple[Pass, ...]:
    """Passes of a target, with the options that the checkpoint determines. entries: that the decoder keeps."""
    return passes(
        target,
        positions=model.positions or model.max_length,
        head=model.head,
        pooling=model.pooling,
        activation=model.activation,
        quantization=quantization,
        vocabulary_size=model.vocabulary_size,
        entries=entries,
    )
