from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spladerunner import errors
from spladerunner.errors import MissingExtraError, SpladeRunnerError, requires_extra

EXCEPTIONS = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, SpladeRunnerError)
]
DATA: dict[str, Any] = {
    "name": "owner/model",
    "matches": ("tiny-en",),
    "revision": "v1",
    "path": Path("bundle/doc.onnx"),
    "line": 3,
    "expected": 5,
    "found": 7,
    "providers": ("CUDAExecutionProvider",),
    "available": ("CPUExecutionProvider",),
    "extra": "export",
    "shortfalls": ("worst_cosine is 0.8, 0.99 is needed",),
}


def data_of(kind: type[SpladeRunnerError]) -> dict[str, Any]:
    """A value for each keyword-only parameter."""
    parameters = inspect.signature(kind).parameters.values()
    return {each.name: DATA[each.name] for each in parameters if each.kind is each.KEYWORD_ONLY}


def pickled(error: SpladeRunnerError) -> Any:
    return pickle.loads(pickle.dumps(error))


@pytest.mark.parametrize("kind", EXCEPTIONS)
@pytest.mark.parametrize("duplicate", [pickled, copy.copy, copy.deepcopy])
def test_data_survives_pickling_and_copying(kind: type[SpladeRunnerError], duplicate: Callable[..., Any]) -> None:
    data = data_of(kind)
    error = duplicate(kind("what happened", **data))
    assert type(error) is kind and str(error) == "what happened"
    assert {name: getattr(error, name) for name in data} == data


@pytest.mark.parametrize("kind", EXCEPTIONS)
def test_data_is_optional_and_documented(kind: type[SpladeRunnerError]) -> None:
    error = kind("what happened")
    for name in data_of(kind):
        assert getattr(error, name) in (None, ())
        assert f"{name}:" in (kind.__doc__ or "") or f"{name}, " in (kind.__doc__ or "")


def test_the_tree_in_the_docstring_is_complete() -> None:
    drawn = re.findall(r"^(?:[│ ]*[├└]── )?(\w+Error)", errors.__doc__ or "", re.MULTILINE)
    assert drawn == [kind.__name__ for kind in EXCEPTIONS]


def test_paths_are_paths() -> None:
    assert errors.InputError("bad", path="texts.jsonl").path == Path("texts.jsonl")


def test_a_missing_package_is_an_error_with_the_pip_command() -> None:
    with (
        pytest.raises(
            MissingExtraError, match=r"^CIFF needs .*'absent'\): pip install 'spladerunner\[formats\]'$"
        ) as raised,
        requires_extra("formats", "CIFF"),
    ):
        raise ModuleNotFoundError("No module named 'absent'", name="absent")
    assert raised.value.extra == "formats"


def test_a_failed_import_of_our_own_is_not_taken_for_a_missing_package() -> None:
    with pytest.raises(ModuleNotFoundError), requires_extra("export", "The export"):
        import spladerunner.no_such_module  # type: ignore[import-not-found]  # noqa: F401
