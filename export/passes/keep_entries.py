"""A smaller decoder, of the vocabulary entries that are kept.

The decoder is most of the work of a small model, and texts of one field make only part of a vocabulary positive.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from spladerunner.export.passes.contract import Graph, Pass, UnmetError, int8_decoder, logits
from spladerunner.export.passes.unused import remove_unused


@dataclass(frozen=True)
class KeepEntries(Pass):
    """Drops the rows of all other vocabulary entries from the decoder.

    What is kept stays bit for bit the same: an entry's logit is its own row's product, scale and bias. An embedding
    that is tied keeps all rows, since texts may contain all tokens; the decoder's are chosen from it as the graph is
    opened.

    entries: positions in the vocabulary, ascending.
    Requires: logits by a fused int8 product, as FuseOperators leaves them, over more than the highest entry.
    Ensures: the logits are those of the entries, in their order.
    """

    name: ClassVar[str] = "keep entries"
    entries: tuple[int, ...] = field(repr=False)

    def requires(self, model: onnx.ModelProto) -> None:
        """Checks for the decoder's product, and that it has all entries."""
        output = logits(model)
        int8_decoder(model.graph, output.name)
        if self.entries[-1] >= (size := _width(output)):
            raise UnmetError(f"logits of more than {self.entries[-1]} entries, but there are {size}")

    def call(self, graph: Graph, target: Path) -> str:
        """Writes the graph with a smaller decoder."""
        found, output = graph.model.graph, logits(graph.model)
        width = _width(output)
        _keep(found, int8_decoder(found, output.name), np.array(self.entries, dtype=np.int64), width)
        output.type.tensor_type.shape.dim[2].dim_value = len(self.entries)
        remove_unused(found)
        onnx.save(graph.model, target)
        return f"{len(self.entries):,} of {width:,} entries"

    def ensures(self, model: onnx.ModelProto) -> None:
        """Checks the logits and the graph's consistency."""
        if (size := _width(logits(model))) != len(self.entries):
            raise UnmetError(f"logits of {len(self.entries)} entries, but there are {size}")
        onnx.checker.check_model(model)


def _width(output: onnx.ValueInfoProto) -> int:
    return int(output.type.tensor_type.shape.dim[2].dim_value)


def _keep(graph: onnx.GraphProto, decoder: onnx.NodeProto, entries: NDArray[np.int64], width: int) -> None:
    """Replaces the constants of the decoder, in place: its matrix (D, V), and those that are (V,)."""
    constants = {constant.name: constant for constant in graph.initializer}
    made = {output: node for node in graph.node for output in node.output}
    for at, name in enumerate(decoder.input):
        kept = f"{name}_kept"
        if name in constants:
            values = numpy_helper.to_array(constants[name])
            if values.ndim and values.shape[-1] == width:
                values = np.ascontiguousarray(values[..., entries])
                graph.initializer.append(numpy_helper.from_array(values, kept))
                decoder.input[at] = kept
        elif at == 1:  # the embedding, transposed
            transposed = made[name]
            graph.initializer.append(numpy_helper.from_array(entries, "kept_entries"))
            nodes = [
                helper.make_node("Gather", [transposed.input[0], "kept_entries"], [f"{kept}_rows"]),
                helper.make_node("Transpose", [f"{kept}_rows"], [kept], perm=[1, 0]),
            ]
            for node in reversed(nodes):
                graph.node.insert(0, node)
            decoder.input[at] = kept
