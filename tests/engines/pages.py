"""Runs the code of a page in docs/engines, and compares its output with the output on the page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spladerunner import Expander, SparseVector
from spladerunner.bulk import encode
from spladerunner.readers import Input

PAGES = Path(__file__).resolve().parents[2] / "docs" / "engines"
NUMBER = re.compile(r"-?\d+\.\d+")


LOADER = "load the parts of vectors/"


def run_loader(
    name: str, folder: Path, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> dict[str, SparseVector]:
    """Runs the block of a page that loads Parquet parts, with the page's names; returns the vectors that it loads.

    folder: gets a corpus of 25 texts, and their vectors in parts of 10.
    """
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    (code,) = re.findall(rf'^```python title="{LOADER}"\n(.*?)^```', page, re.MULTILINE | re.DOTALL)
    texts = {f"doc {number}": f"atomic bomb number {number}" for number in range(25)}
    (folder / "corpus.tsv").write_text("".join(f"{key}\t{text}\n" for key, text in texts.items()))
    expander = Expander()
    encode(expander, [Input(str(folder / "corpus.tsv"))], f"{folder}/vectors/", part_lines=10)
    monkeypatch.chdir(folder)
    exec(code, names)
    return dict(zip(texts, expander.encode(texts.values()), strict=True))


def run_page(name: str, folder: Path, address: tuple[str, str] | None = None) -> None:
    """Runs a page's Python block unchanged, and compares the last lines that it prints with the page's text block.

    folder: working directory of the process. address: (the server's address on the page, the address to use instead).
    Numbers with a decimal point may differ by 3 %.
    """
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (shown,) = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    if address is not None:
        assert address[0] in code
        code = code.replace(*address)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed = "".join(done.stdout.splitlines(keepends=True)[-len(shown.splitlines()) :])
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", shown)
    for number, expected in zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True):
        assert float(number) == pytest.approx(float(expected), rel=0.03)
