"""The layers of the package: a module imports its own layer and those below, and no two modules import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import ROOT

# From the bottom to the top. A module belongs to the layer with the longest prefix of its name.
LAYERS = [
    ("errors", "log", "vector", "passages", "vocabulary", "atomic_file", "filesystem", "templating", "models"),
    ("inference",),
    ("model",),
    ("expander", "explanation", "explanation_page", "comparison", "mistakes"),
    ("__init__",),
    ("formats", "readers", "parquet"),
    ("bulk", "evaluation", "export"),
    ("distributed",),
    ("cli", "__main__"),
]
# Rooms of one layer that are independent.
APART = [
    ("bulk", "evaluation"),
    ("bulk", "export"),
    ("evaluation", "export"),
    ("formats", "readers"),
    ("formats", "parquet"),
    ("readers", "parquet"),
]


class Edge(NamedTuple):
    importer: str
    imported: str
    line: int
    at_top: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def module_files() -> dict[str, Path]:
    """The files of the package by the name of their module, such as "model.hub"."""
    found = {}
    for prefix, folder in (("", ROOT / "spladerunner"), ("export.", ROOT / "export"), ("models.", ROOT / "models")):
        for path in folder.rglob("*.py"):
            name = ".".join(path.relative_to(folder).with_suffix("").parts)
            found[(prefix + name).removesuffix(".__init__")] = path
    return found


FILES = module_files()


def edges_of(name: str) -> Iterator[Edge]:
    def visit(node: ast.AST, at_top: bool) -> Iterator[Edge]:
        for child in ast.iter_child_nodes(node):
            if (
                isinstance(child, ast.ImportFrom)
                and not child.level
                and (child.module or "").startswith("spladerunner")
            ):
                module = (child.module or "").removeprefix("spladerunner").removeprefix(".") or "__init__"
                for alias in child.names:
                    submodule = alias.name if module == "__init__" else f"{module}.{alias.name}"
                    yield Edge(name, submodule if submodule in FILES else module, child.lineno, at_top)
            elif isinstance(child, ast.Import):
                for alias in child.names:
                    if alias.name.startswith("spladerunner"):
                        module = alias.name.removeprefix("spladerunner").removeprefix(".") or "__init__"
                        yield Edge(name, module, child.lineno, at_top)
            elif not _is_for_types_only(child):
                local = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from visit(child, at_top and not local)

    yield from visit(ast.parse(FILES[name].read_text(encoding="utf-8")), True)


def _is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


EDGES = [edge for name in FILES for edge in edges_of(name)]


def layer(name: str) -> int:
    for number, prefixes in enumerate(LAYERS):
        if name.split(".")[0] in prefixes:
            return number
    raise AssertionError(f"{name} is in no layer: add it to LAYERS")


def room(name: str) -> str:
    return name.split(".")[0]


def test_every_import_is_of_a_module_that_exists() -> None:
    assert len(EDGES) > 100
    assert not [str(edge) for edge in EDGES if edge.imported not in FILES]


def test_modules_import_no_layer_above_theirs() -> None:
    upwards = [edge for edge in EDGES if edge.at_top and layer(edge.imported) > layer(edge.importer)]
    assert not upwards, "\n".join(map(str, upwards))


def test_no_local_import_leads_to_a_layer_above() -> None:
    upwards = [edge for edge in EDGES if not edge.at_top and layer(edge.imported) > layer(edge.importer)]
    assert not upwards, "\n".join(map(str, upwards))


@pytest.mark.parametrize(("first", "second"), APART)
def test_rooms_of_one_layer_that_do_not_know_each_other(first: str, second: str) -> None:
    crossing = [edge for edge in EDGES if {room(edge.importer), room(edge.imported)} == {first, second}]
    assert not crossing, "\n".join(map(str, crossing))


def test_there_are_no_circles() -> None:
    graph: dict[str, set[str]] = {name: set() for name in FILES}
    for edge in EDGES:
        # A package runs before its modules, so that a module does not import its own package by an import of a sibling.
        if edge.at_top and edge.imported != edge.importer:
            graph[edge.importer].add(edge.imported)
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
