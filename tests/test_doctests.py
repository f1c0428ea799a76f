"""Runs the examples in docstrings, and requires one of every public function and method."""

from __future__ import annotations

import doctest
import importlib
import inspect
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.test_public_surface import PUBLIC, public_objects

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules_with_examples() -> list[str]:
    folders = {"spladerunner": ROOT / "spladerunner", "spladerunner.export": ROOT / "export"}
    found = []
    for package, folder in folders.items():
        for path in sorted(folder.rglob("*.py")):
            if ">>> " in path.read_text(encoding="utf-8"):
                parts = path.relative_to(folder).with_suffix("").parts
                found.append(".".join([package, *(part for part in parts if part != "__init__")]))
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


def functions_of(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A function itself; of a class, its public methods and properties."""
    if inspect.isfunction(value):
        yield name, value
    elif inspect.isclass(value) and value.__module__.startswith("spladerunner"):
        for attribute, member in vars(value).items():
            if not attribute.startswith("_") and isinstance(
                member, (property, cached_property, classmethod, staticmethod, type(functions_of))
            ):
                yield f"{name}.{attribute}", member


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_function_and_method_has_an_example(package: str) -> None:
    lacking = [
        name
        for attribute, value in public_objects(package)
        for name, function in functions_of(attribute, value)
        if ">>> " not in (inspect.getdoc(function) or "")
    ]
    assert not lacking


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_class_has_an_example(package: str) -> None:
    lacking = [
        name
        for name, value in public_objects(package)
        if inspect.isclass(value)
        and not issubclass(value, Exception)
        and value.__module__.startswith("spladerunner")
        and ">>> "
        not in "".join(inspect.getdoc(each) or "" for each in (value, *dict(functions_of(name, value)).values()))
    ]
    assert not lacking
