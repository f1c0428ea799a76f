"""Breaks the code in small ways, one at a time, and counts the breaks that no test notices.

`make mutants` runs it, in an environment with cosmic-ray, whose operators make the mutants. The driver is our own:
cosmic-ray has one test command for all mutants, where a mutant needs only the tests that run its line, and mutmut
leaves out what is not in a function, and functions with a decorator.

One mutant is made at each of a seeded sample of places. It never touches the working tree: it is written into a copy,
where a forked process with limits of time and memory runs the quick tests that reach its line, the fastest first.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from xml.etree import ElementTree as ET

import pytest
import yaml
from coverage import CoverageData

from tests.mutation.places import Mutant, Place, places

MUTATED = ("*.py", "inference/*.py", "model/*.py", "formats/*.py", "bulk/*.py", "evaluation/*.py")
"""In the folder spladerunner."""

LEAST_KILLED = 0.9
"""The least share of mutants that tests must notice, of those that do not do the same as the code."""

QUICK = [
    "-m",
    "not network and not gpu and not torch",
    "--ignore=tests/test_docs.py",
    "--ignore=tests/test_benchmarks.py",
]
"""The tests without torch that test modules and not the whole."""

PRELOADED = ("hypothesis", "numpy", "onnx", "onnxruntime", "pyarrow.parquet", "scipy.sparse", "tokenizers")
"""Imported once, so that a mutant's process starts with them; never spladerunner itself."""

_HYPOTHESIS_IS_LOADED = "ignore::pytest.PytestAssertRewriteWarning"

MOST_SECONDS = 30.0
"""Time of the tests that one mutant runs, as measured without it."""
MEMORY = 8 << 30
FILE_SIZE = 1 << 30

COPY = "SPLADERUNNER_MUTATION_COPY"
"""Set in the environment of the process that works in the copy."""


class Tests(NamedTuple):
    """Coverage of the tests. seconds: of each test. of_line: the tests of each line, by module.

    Tests that fail without a mutant are left out.
    """

    seconds: dict[str, float]
    of_line: dict[str, dict[int, set[str]]]

    def reaching(self, path: str, lines: range) -> list[str]:
        """Tests that run one of the lines, and those of test_<module>.py, the fastest first.

        For code that runs only at import, all tests that run some line of the module.
        """
        of_line = self.of_line.get(path, {})
        found = set[str]().union(*(of_line.get(line, ()) for line in lines)) or set[str]().union(*of_line.values())
        found |= {test for test in self.seconds if test.startswith(f"tests/test_{Path(path).stem}.py::")}
        chosen: list[str] = []
        total = 0.0
        for test in sorted(found, key=lambda test: (self.seconds.get(test, 0.0), test)):
            total += self.seconds.get(test, 0.0)
            if chosen and total > MOST_SECONDS:
                break
            chosen.append(test)
        return chosen


def copy_tree(root: Path, copy: Path) -> None:
    """Copies the files that git does not ignore, links as links."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in filter(None, subprocess.check_output(command, cwd=root, text=True).split("\0")):
        if os.path.lexists(root / name):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, copy / name, follow_symlinks=False)


def run_tests(arguments: Sequence[str], seconds: float) -> int:
    """Runs pytest in a forked process and returns its exit status, -SIGKILL if it takes longer."""
    with TemporaryDirectory() as scratch:
        if not (child := os.fork()):
            _run_pytest(arguments, seconds, scratch)
        end = time.monotonic() + seconds
        while not (finished := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < end:
            time.sleep(0.02)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # with all that the tests started
        return os.waitstatus_to_exitcode((finished if finished[0] else os.waitpid(child, 0))[1])


def _run_pytest(arguments: Sequence[str], seconds: float, scratch: str) -> None:
    """Ends the process."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE, FILE_SIZE))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 1))
    os.environ.update(TMPDIR=scratch, HF_HOME=scratch, PYTHONDONTWRITEBYTECODE="1")
    sys.dont_write_bytecode = True  # a cached mutant could outlive its turn
    output = os.open("../output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    status = 3
    try:
        options = ["-qq", "-p", "no:cacheprovider", "--hypothesis-seed=0", "-W", _HYPOTHESIS_IS_LOADED]
        status = int(pytest.main([*options, *QUICK, *arguments]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def measure(modules: Sequence[str] = ()) -> Tests:
    """Runs the quick tests on the code as it is, and prints which fail. Raises SystemExit if pytest itself fails.

    modules: paths of test modules to which it keeps, if any.
    """
    options = ["--cov=spladerunner", "--cov-context=test", "--cov-report=", "--junitxml=../report.xml", *modules]
    if run_tests(options, seconds=3600) not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SystemExit(Path("../output").read_text(encoding="utf-8"))
    seconds: dict[str, float] = {}
    failing = set()
    for case in ET.parse("../report.xml").iter("testcase"):
        test = f"{case.get('classname', '').replace('.', '/')}.py::{_function(case.get('name', ''))}"
        seconds[test] = seconds.get(test, 0.0) + float(case.get("time", 0))
        if case.find("failure") is not None or case.find("error") is not None:
            failing.add(test)
    for test in sorted(failing):
        print(f"left out, for it fails without a mutant: {test}", flush=True)
    data = CoverageData()
    data.read()
    of_line = {
        os.path.relpath(file): {
            line: {_function(context.partition("|")[0]) for context in contexts if context} - failing
            for line, contexts in data.contexts_by_lineno(file).items()
        }
        for file in data.measured_files()
    }
    return Tests(seconds, of_line)


def all_places() -> list[Place]:
    """The places of every module."""
    paths = [path for each in MUTATED for path in sorted(Path("spladerunner").glob(each))]
    return [place for path in paths for place in places(str(path), path.read_text("utf-8"))]


def sample(everywhere: Sequence[Place], size: int, seed: int) -> Iterator[Mutant]:
    """A mutant at each of `size` places, in a random order."""
    chosen = random.Random(seed)
    for place in chosen.sample(everywhere, len(everywhere)):
        if size and (mutant := place.mutant(Path(place.path).read_text("utf-8"), chosen)):
            size -= 1
            yield mutant


def survives(mutant: Mutant, tests: Tests) -> bool:
    """True if every test passes that reaches the mutant, or none does."""
    path = Path(mutant.path)
    source, status = path.read_text("utf-8"), path.stat()
    reaching = tests.reaching(mutant.path, _statement(source, mutant.line))
    path.write_text(mutant.source, "utf-8")
    try:
        limit = 60 + 10 * sum(tests.seconds.get(test, 0.0) for test in reaching)
        return not reaching or run_tests(["-x", *reaching], limit) == 0
    finally:
        path.write_text(source, "utf-8")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # what was compiled of it stays valid


def _statement(source: str, line: int) -> range:
    """The lines of the innermost statement around a line; of one with a body, the lines before it."""
    spans = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and node.end_lineno is not None:
            body = getattr(node, "body", None)
            spans.append(range(node.lineno, body[0].lineno if body else node.end_lineno + 1))
    return max((span for span in spans if line in span), key=lambda span: span.start, default=range(line, line + 1))


def _function(test: str) -> str:
    return test.partition("[")[0]


def _reasons() -> dict[tuple[str, str, str], tuple[str, str]]:
    """The kind and the reason of each survivor that survivors.yaml lists."""
    listed = yaml.safe_load((Path(__file__).parent / "survivors.yaml").read_text("utf-8"))
    return {
        (entry["file"], entry["code"], entry["mutant"]): (kind, entry["why"])
        for kind, entries in listed.items()
        for entry in entries
    }


def main() -> int:
    """Prints what was killed and what survived; 1 if too few were killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Breaks the code and counts.")
    parser.add_argument("--sample", type=int, default=300, metavar="N", help="mutants (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the sample (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=60, help="begin no mutant after this time (default: 60)")
    parser.add_argument("--only", type=int, nargs="+", metavar="N", help="those of the sample with these numbers")
    parser.add_argument("--tests", nargs="+", default=[], metavar="MODULE", help="test modules to keep to")
    options = parser.parse_args()
    if COPY not in os.environ:
        return _run_in_copy()
    for name in PRELOADED:
        importlib.import_module(name)
    end = time.monotonic() + 60 * options.minutes
    everywhere = all_places()
    tests = measure(options.tests)
    survivors: list[Mutant] = []
    ran = 0
    for number, mutant in enumerate(sample(everywhere, options.sample, options.seed), 1):
        if time.monotonic() > end:
            break
        if options.only and number not in options.only:
            continue
        ran += 1
        if survives(mutant, tests):
            survivors.append(mutant)
            print(f"survived, number {number}, {len(survivors)} of {ran}: {mutant}", flush=True)
    return _report(f"seed {options.seed}: {ran} mutants, at {len(everywhere):,} places", ran, survivors)


def _run_in_copy() -> int:
    root = Path(__file__).resolve().parents[2]
    with TemporaryDirectory(prefix="spladerunner-mutants-") as scratch:
        copy = Path(scratch) / "copy"
        copy_tree(root, copy)
        (Path(scratch) / "shared").symlink_to(root.parent / "shared")  # where the tests look for it
        environment = {**os.environ, COPY: "1", "PYTHONPATH": str(copy)}
        environment.pop("CI", None)  # what CI must not skip may be skipped here
        return subprocess.call([sys.executable, "-m", "tests.mutation", *sys.argv[1:]], cwd=copy, env=environment)


def _report(drawn: str, ran: int, survivors: Sequence[Mutant]) -> int:
    reasons = _reasons()
    listed = [reasons.get((each.path, each.removed, each.added), ("not listed", "")) for each in survivors]
    equivalent = sum(kind == "equivalent" for kind, _ in listed)
    killed = ran - len(survivors)
    share = killed / (ran - equivalent) if ran > equivalent else 1.0
    for mutant, (kind, why) in zip(survivors, listed, strict=True):
        print(f"\n{mutant}\n    {kind}: {why}".removesuffix(": "))
    print(f"\n{drawn}: {killed} killed, {len(survivors)} survived, {equivalent} of them equivalent")
    print(f"{share:.1%} of the mutants that are not equivalent were killed; at least {LEAST_KILLED:.0%} must be")
    return int(share < LEAST_KILLED)


if __name__ == "__main__":
    sys.exit(main())
