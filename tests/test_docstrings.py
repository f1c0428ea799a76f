"""Docstrings: their examples run, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import spladerunner
from spladerunner import formats
from tests.conftest import ROOT


def modules(folder: Path, package: str) -> list[str]:
    """The dotted names of a folder's modules, without importing any. Symbolic links are not followed."""
    names = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if parts[-1] != "__main__":
            names.append(".".join([package, *(part for part in parts if part != "__init__")]))
    return names


RUNTIME = modules(ROOT / "spladerunner", "spladerunner")
EXPORT = [pytest.param(name, marks=pytest.mark.torch) for name in modules(ROOT / "export", "spladerunner.export")]


def examples(name: str) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder().find(importlib.import_module(name)) if test.examples]


@pytest.mark.parametrize("name", [*RUNTIME, *EXPORT])
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.REPORT_NDIFF)
    report: list[str] = []
    for test in examples(name):
        runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


@pytest.mark.parametrize("module", [spladerunner, formats], ids=lambda module: module.__name__)
def test_public_functions_and_classes_have_an_example(module: object) -> None:
    public = [getattr(module, name) for name in module.__all__]  # type: ignore[attr-defined]
    described = [
        thing
        for thing in public
        if inspect.isroutine(thing) or (inspect.isclass(thing) and not issubclass(thing, Exception))
    ]
    assert described
    without = [thing.__name__ for thing in described if ">>>" not in _all_docstrings(thing)]
    assert without == []


def _all_docstrings(thing: object) -> str:
    members = vars(thing).values() if inspect.isclass(thing) else ()
    return "".join(inspect.getdoc(item) or "" for item in (thing, *members))
