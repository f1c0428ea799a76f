"""The processes that a process has started, and theirs, by /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SECONDS = 900.0
"""The longest that a step may take; on an idle machine, one takes seconds."""


@contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Runs a command in a session of its own, all of which is killed at the end."""
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def descendants(ancestor: int) -> dict[int, str]:
    """The command line of each process below this one, by its id."""
    parents, commands = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                commands[int(folder.name)] = (
                    (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
            except OSError:
                continue  # it has ended
    found: set[int] = set()
    waiting = [ancestor]
    while waiting:
        parent = waiting.pop()
        children = [process for process, its_parent in parents.items() if its_parent == parent]
        found.update(children)
        waiting += children
    return {process: commands[process] for process in found}


def kill_one(ancestor: int, command: str) -> bool:
    """Kills, with SIGKILL, the newest process below this one whose command line has this text; False without one."""
    found = [process for process, line in descendants(ancestor).items() if command in line]
    if found:
        os.kill(max(found), signal.SIGKILL)
    return bool(found)


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits for a condition, for minutes at most."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
