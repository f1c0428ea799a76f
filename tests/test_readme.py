"""What the README shows, run."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from spladerunner import Expander
from tests.conftest import ROOT
from tests.test_cli import in_terminal

README = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"\d+\.\d+")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    assert found
    return found


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs_as_it_stands_with_the_network_cut(code: str, tmp_path: Path) -> None:
    cut = "import socket\ndef cut(*_): raise OSError('no network')\nsocket.socket.connect = cut\n"
    done = subprocess.run([sys.executable, "-c", cut + code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() and not done.stderr


@pytest.mark.parametrize("session", blocks("console"))
def test_the_command_line_prints_what_is_shown(session: str) -> None:
    for command, shown in re.findall(r"^\$ spladerunner ([^\n]*)\n(.*?)(?=^\$ |\Z)", session, re.MULTILINE | re.DOTALL):
        printed = in_terminal(*shlex.split(command), columns=80)
        assert [line.split()[:1] for line in printed.splitlines()] == [line.split()[:1] for line in shown.splitlines()]
        for figures, expected in zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True):
            assert float(figures) == pytest.approx(float(expected), abs=0.03)


def test_the_picture_is_what_the_embedded_pair_gives() -> None:
    picture = runpy.run_path(str(ROOT / "docs" / "picture.py"))["picture"](Expander())
    drawn = (ROOT / "docs" / "expansion.svg").read_text(encoding="utf-8")
    assert re.sub(r"[\d.]+", "", drawn) == re.sub(r"[\d.]+", "", picture)
    for figure, expected in zip(re.findall(r">(\d\.\d\d)<", drawn), re.findall(r">(\d\.\d\d)<", picture), strict=True):
        assert float(figure) == pytest.approx(float(expected), abs=0.03)


def test_the_figures_of_the_embedded_pair_are_those_of_its_card() -> None:
    card = (ROOT / "models" / "README.md").read_text(encoding="utf-8")
    for row in ("int8", "float32", "BM25"):
        figures = [
            re.findall(r"\d\.\d{3}", re.search(rf"^\|.*{row}.*\d\.\d{{3}}.*$", text, re.M)[0])
            for text in (README, card)
        ]
        assert figures[0] == figures[1] and len(figures[0]) == 2


def test_the_size_stated_is_the_size_shipped() -> None:
    size = sum(path.stat().st_size for path in (ROOT / "models" / "tiny-en").iterdir())
    assert f"{size / 1e6:.1f} MB in all" in README


def test_make_runs_the_commands_that_the_readme_names() -> None:
    assert "make run\nmake test\n" in README
    dry = subprocess.check_output(
        ["make", "--dry-run", "run", "test"], cwd=ROOT, text=True, env={**os.environ, "MAKEFLAGS": ""}
    )
    assert "spladerunner expand" in dry and "pytest" in dry
