"""Runs the examples in docstrings, and requires one of every public function and method."""

from __future__ import annotations

import doctest
import importlib
import inspect
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.test_public_surface import PUBLIC, public_objects

NEED_A_CHECKPOINT = {"export_bundle"}
"""Takes a checkpoint, torch and seconds; tests/test_export.py runs it."""

NEED_A_CLUSTER = {"spladerunner.distributed.ray", "spladerunner.distributed.spark"}
"""tests/clusters runs them, and the examples of their pages."""

NEED_POSIX = {"spladerunner.bulk.job"}
"""Encodes a file."""

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules_with_examples() -> list[Any]:
    folders = {"spladerunner": ROOT / "spladerunner", "spladerunner.export": ROOT / "export"}
    found = []
    for package, folder in folders.items():
        for path in sorted(folder.rglob("*.py")):
            if ">>> " in path.read_text(encoding="utf-8"):
                parts = path.relative_to(folder).with_suffix("").parts
                name = ".".join([package, *(part for part in parts if part != "__init__")])
                needs = [pytest.mark.torch] * (folder.name == "export") + [pytest.mark.posix] * (name in NEED_POSIX)
                found.append(pytest.param(name, marks=needs))
    return found


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).attempted > 0
    assert not runner.failures, "".join(report)
    assert list(tmp_path.iterdir()) == []


def functions_of(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """The name and the examples of a function, or of each public method and property of a class.

    The example of a class is one of each method that it mentions.
    """
    if inspect.isfunction(value):
        yield name, _examples(value)
    elif inspect.isclass(value) and value.__module__.startswith("spladerunner"):
        for attribute, member in vars(value).items():
            if not attribute.startswith("_") and isinstance(
                member, (property, cached_property, classmethod, staticmethod, FunctionType)
            ):
                mentioned = [line for line in _examples(value).splitlines() if f".{attribute}" in line]
                yield f"{name}.{attribute}", _examples(member) or "\n".join(mentioned)


def _examples(value: object) -> str:
    return "\n".join(
        line for line in (inspect.getdoc(value) or "").splitlines() if line.lstrip().startswith((">>> ", "... "))
    )


@pytest.mark.parametrize("package", [name for name in PUBLIC if name not in NEED_A_CLUSTER])
def test_every_public_function_and_method_has_an_example(package: str) -> None:
    lacking = [
        name
        for attribute, value in public_objects(package)
        for name, examples in functions_of(attribute, value)
        if not examples and name not in NEED_A_CHECKPOINT
    ]
    assert not lacking
