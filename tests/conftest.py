from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from spladerunner import Expander
from tests.small_model import write_bundle

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of trained checkpoints and judged collections. CI has it, so CI must not skip."""
    if not SHARED.is_dir():
        message = f"needs the trained checkpoints and the collections in {SHARED}, which are not part of the repository"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return SHARED


@pytest.fixture
def quiet_libraries() -> Iterator[None]:
    """sentence-transformers deprecates, on every use, the module names that published models have."""
    from spladerunner.export.silence import silenced

    with silenced():
        yield


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def expander() -> Expander:
    """The embedded pair."""
    return Expander()
