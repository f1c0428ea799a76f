from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from spladerunner import Expander
from spladerunner.models import embedded_folder
from tests.engines.scifact import SciFact


@pytest.fixture(scope="session")
def scifact(shared: Path, expander: Expander, request: pytest.FixtureRequest) -> SciFact:
    """SciFact's vectors by the embedded pair, cached between runs of the same bundle."""
    fingerprint = hashlib.sha256((embedded_folder() / "manifest.json").read_bytes()).hexdigest()[:12]
    return SciFact.encode(shared / "data" / "scifact", expander, request.config.cache.mkdir(f"scifact-{fingerprint}"))
