"""The driver of `make mutants`, on a package of two functions of which one has a test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytest.importorskip("cosmic_ray", reason="make mutants installs cosmic-ray")
pytest.importorskip("pytest_cov", reason="make mutants installs pytest-cov")

PACKAGE = """\
def at_least(value, limit):
    return value >= limit


def next_of(number):
    return number + 1
"""
AT_LEAST = """\
from spladerunner.small import at_least

def test_at_least():
    assert [at_least(value, 2) for value in (1, 2, 3)] == [False, True, True]
"""
FAILS = """\
from spladerunner.small import at_least

def test_fails():
    assert at_least(1, 2)
"""
NEXT_OF = """\
from spladerunner.small import next_of

def test_next_of():
    assert next_of(4) == 5
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with a package and its tests. The driver writes beside it."""
    copy = tmp_path / "copy"
    for name, content in {
        "spladerunner/__init__.py": "",
        "spladerunner/small.py": PACKAGE,
        "tests/test_small.py": AT_LEAST,
        "tests/test_other.py": FAILS,
    }.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text(content)
    return copy


def run_driver(
    package: Path, *arguments: str, code: str = "sys.exit(driver.main())"
) -> subprocess.CompletedProcess[str]:
    """Runs the driver as if it had made the copy."""
    program = f"import sys; import tests.mutation.__main__ as driver; driver.PRELOADED = (); {code}"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(package), str(ROOT)]),
        "SPLADERUNNER_MUTATION_COPY": "1",
    }
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(
        command, cwd=package, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.slow
def test_what_a_test_notices_is_killed_and_the_rest_survives(package: Path) -> None:
    """The comparison has one place; the sum and its number have one each, and no test, until one is written."""
    done = run_driver(package)
    assert "seed 1: 3 mutants, at 3 places: 1 killed, 2 survived, 0 of them equivalent" in done.stdout, done.stdout
    assert "33.3% of the mutants that are not equivalent were killed; at least 90% must be" in done.stdout
    assert done.returncode == 1
    assert "left out, for it fails without a mutant: tests/test_other.py::test_fails" in done.stdout
    survivors = [line for line in done.stdout.splitlines() if line.startswith("survived")]
    assert len(survivors) == 2 and all("spladerunner/small.py:6" in line for line in survivors)
    assert (package / "spladerunner" / "small.py").read_text() == PACKAGE
    (package / "tests" / "test_next.py").write_text(NEXT_OF)
    numbers = [re.findall("number ([0-9])", line)[0] for line in survivors]
    done = run_driver(package, "--only", *numbers, "--tests", "tests/test_next.py")
    assert "seed 1: 2 mutants, at 3 places: 2 killed, 0 survived" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


@pytest.mark.slow
def test_a_test_that_takes_too_long_is_killed(package: Path) -> None:
    (package / "tests" / "test_slow.py").write_text("def test_slow():\n    import time; time.sleep(600)\n")
    done = run_driver(package, code="print(driver.run_tests(['tests/test_slow.py'], 1))")
    assert done.stdout == "-9\n", done.stderr


@pytest.mark.slow
def test_a_listed_survivor_that_is_equivalent_does_not_count(package: Path) -> None:
    listed = """
survivors = [driver.Mutant("a.py", 1, "Swap", "", "a + b", "b + a"), driver.Mutant("a.py", 2, "Swap", "", "a", "b")]
same, taste = ("equivalent", "a sum"), ("accepted", "taste")
driver._reasons = lambda: {("a.py", "a + b", "b + a"): same, ("a.py", "a", "b"): taste}
sys.exit(driver._report("seed 1", 11, survivors))
"""
    done = run_driver(package, code=f"\n{listed}")
    assert "9 killed, 2 survived, 1 of them equivalent\n90.0% of" in done.stdout and done.returncode == 0
    assert "equivalent: a sum" in done.stdout and "accepted: taste" in done.stdout


def test_mutants_that_no_test_can_notice_are_not_made() -> None:
    from tests.mutation.places import essence, places

    log = "from spladerunner.log import debug\ndebug(__name__, 'read %d', 7)\n"
    assert essence(log) == essence(log.replace("7", "8"))
    assert essence("a: int = 1") == essence("a: str = 1") != essence("a: int = 2")
    assert essence("zip(a, b, strict=True)") == essence("zip(a, b, strict=False)")
    removed = [place for place in places("a.py", "def f():\n    g()\n    raise ValueError\n") if place.line > 1]
    assert [(place.line, place.column) for place in removed] == [(2, 4), (3, 4)]
