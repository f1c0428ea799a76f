from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spladerunner import Expander
from spladerunner.model.registry import embedded_folder
from tests.engines.scifact import SciFact

PAGES = Path(__file__).resolve().parents[2] / "docs" / "engines"
NUMBER = re.compile(r"-?\d+\.\d+")


@pytest.fixture(scope="session")
def scifact(shared: Path, expander: Expander, request: pytest.FixtureRequest) -> SciFact:
    manifest = (embedded_folder() / "manifest.json").read_text(encoding="utf-8")
    fingerprint = hashlib.sha256(manifest.encode()).hexdigest()[:12]
    return SciFact.encode(shared / "data" / "scifact", expander, request.config.cache.mkdir(f"scifact-{fingerprint}"))


@pytest.fixture
def run_page(tmp_path: Path) -> Callable[..., None]:
    """Runs a page's Python as it stands, and compares the end of what it prints with what the page shows.

    Where there is no server, `stand_in` is the (address in the page, address) of what takes its place.
    """

    def run(name: str, stand_in: tuple[str, str] | None = None) -> None:
        page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
        (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        (shown,) = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        if stand_in is not None:
            assert stand_in[0] in code
            code = code.replace(*stand_in)
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed = "".join(done.stdout.splitlines(keepends=True)[-len(shown.splitlines()) :])
        assert NUMBER.sub("#", printed) == NUMBER.sub("#", shown)
        for number, expected in zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True):
            assert float(number) == pytest.approx(float(expected), rel=0.03)

    return run
