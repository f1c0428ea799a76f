"""Attacks the released interfaces with random texts, faults, files, answers and load, and writes what held into a page.

make attack MINUTES=60    everything; with TMPDIR=/dev/shm, several times as many kills and faults
make sweep                a million strings and all code points, under several Pythons
python -m tests.attack --only strings --seed 7 --minutes 1
"""

from __future__ import annotations

import argparse
import datetime as dt
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random

import onnxruntime
import tokenizers

from spladerunner import __version__
from spladerunner.atomic_file import write_atomically
from tests.attack import files, hub, jobs, load, texts
from tests.attack.tries import Result, Tried, run
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- written by make attack and make sweep -->\n", "<!-- end -->\n"

ATTACKS: dict[str, tuple[float, str, Callable[[Random], Iterator[Tried]]]] = {
    "strings": (2, "random texts through random tokenizers of four families", texts.strings),
    "code points": (2, "code points, in every position of a text, through five tokenizers", texts.code_points),
    "kills": (6, "SIGKILLs of `encode`, and the job run again", jobs.kills),
    "faults": (2, "failed system calls in `encode`, and the job run again", jobs.faults),
    "files": (3, "folders with a damaged or malformed file", files.malformed),
    "Hub answers": (2, "hostile repositories on the Hub", hub.hostile),
    "callers": (1, "callers that share an Expander, in threads and on event loops, some cancelled", load.callers),
    "interrupts": (1, "calls interrupted by a signal", load.interrupts),
    "forks": (1, "forks while other threads encode or open graphs", load.forks),
}
"""Share of the time, what is counted, and the attack; what must hold is in its docstring."""


HEADER = ["| attack | tried | held | run |", "|---|---|---|---|"]


def rows(results: Mapping[str, Result], seed: int) -> dict[tuple[str, str], str]:
    """The row of each attack, by what is counted and Python's version without its last part."""
    version = ".".join(platform.python_version_tuple()[:2])
    made_by = (
        f"seed {seed}, {dt.date.today().isoformat()}, spladerunner {__version__}, Python {platform.python_version()}, "
        f"tokenizers {tokenizers.__version__}, onnxruntime {onnxruntime.__version__}"
    )
    return {
        (ATTACKS[name][1], version): f"| {ATTACKS[name][1]} | {result.tried:,}{' (all)' if result.finished else ''} "
        f"| {'all' if not result.failures else f'all but {len(result.failures)}'} | {made_by} |"
        for name, result in results.items()
    }


def rows_of(table: str) -> dict[tuple[str, str], str]:
    """The rows of a table that was written before."""
    found = {}
    for line in table.splitlines():
        if version := re.search(r"Python (3\.\d+)\.", line):
            found[line.strip("| ").split(" | ")[0], version[1]] = line
    return found


def report(table: Mapping[tuple[str, str], str]) -> str:
    """The table, in the order of the attacks, then of Python's versions."""
    order = [counted for _, counted, _ in ATTACKS.values()]

    def place(row: tuple[str, str]) -> tuple[int, int]:
        return order.index(row[0]), int(row[1].partition(".")[2])

    return (
        "\n".join([*HEADER, *(table[row] for row in sorted(filter(lambda row: row[0] in order, table), key=place))])
        + "\n"
    )


def main() -> int:
    """Runs the attacks; 1 if something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="time for all attacks together")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="repeats the tries of a run")
    parser.add_argument("--only", choices=ATTACKS, action="append", help="leaves other attacks out; may be repeated")
    parser.add_argument(
        "--page", type=Path, help=f"writes the rows into the table of this page, such as {PAGE.relative_to(ROOT)}"
    )
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    chosen = {name: attack for name, attack in ATTACKS.items() if name in (arguments.only or ATTACKS)}
    seconds_a_share = 60 * arguments.minutes / sum(share for share, _, _ in chosen.values())
    results = dict[str, Result]()
    for name, (share, _, attack) in chosen.items():
        results[name] = run(attack(Random(f"{arguments.seed} {name}")), share * seconds_a_share)
        print(f"{name}: {results[name].tried:,} tried, {len(results[name].failures)} did not hold", flush=True)
        for failure in results[name].failures:
            print(f"  {failure!a}", flush=True)
    found = rows(results, arguments.seed)
    if arguments.page:
        before, rest = arguments.page.read_text(encoding="utf-8").split(BEGIN)
        written, after = rest.split(END)
        table = report({**rows_of(written), **found})
        write_atomically(arguments.page, f"{before}{BEGIN}\n{table}\n{END}{after}")
    print(report(found))
    return int(any(result.failures for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
