"""Removal of what no output of a graph depends on, after a pass has bypassed it."""

from __future__ import annotations

from collections.abc import Iterator

import onnx


def remove_unused(graph: onnx.GraphProto) -> None:
    """Removes nodes, constants and inputs that no output depends on, and sorts the nodes by their use."""
    made = {output: node for node in graph.node for output in filter(None, node.output)}
    needed: list[onnx.NodeProto] = []
    seen: set[str] = set()
    pending = [(output.name, False) for output in graph.output]
    while pending:
        value, ready = pending.pop()
        node = made.get(value)
        if ready and node is not None:
            needed.append(node)
        elif value not in seen:
            seen.add(value)
            if node is not None:
                seen.update(node.output)
                pending.append((value, True))
                pending += [(given, False) for given in _read(node)]
    for group in (graph.initializer, graph.input):
        kept = [each for each in group if each.name in seen]
        del group[:]
        group.extend(kept)
    del graph.value_info[:], graph.node[:]
    graph.node.extend(needed)


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """Names of the values that a node reads, those inside its subgraphs among them."""
    yield from filter(None, node.input)  # an optional input that is left out has no name
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _read(inner)
