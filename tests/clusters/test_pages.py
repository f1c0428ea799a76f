"""The pages of docs/scale run, and print what they show."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clusters.processes import SECONDS
from tests.conftest import ROOT
from tests.page_runner import blocks
from tests.test_docs import same

RUN = "import json, sys; from pathlib import Path; from tests.page_runner import run; " \
    "json.dump(run(Path(sys.argv[1])), open('printed.json', 'w'))"  # fmt: skip


@pytest.mark.parametrize("name", ["ray", "spark"])
def test_a_page_runs_and_prints_what_it_shows(name: str, tmp_path: Path) -> None:
    page = ROOT / "docs" / "scale" / f"{name}.md"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {RUN}", page],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    shown = list(blocks(page.read_text(encoding="utf-8")))
    printed = json.loads((tmp_path / "printed.json").read_text())
    compared = 0
    for block, output, following in zip(shown, printed, shown[1:], strict=False):
        if block.runs and (following.language, following.title) == ("text", ""):
            assert same(output, following.content), output
            compared += 1
    assert compared == 2
