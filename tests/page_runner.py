"""Runs a page of the documentation: python tests/page_runner.py PAGE prints what each block printed, as JSON.

A block is Python, a shell script (sh), a terminal session (console), or a file: one whose title is a name with a suffix
is written into the current folder. Python blocks share their names. No connection leaves this machine.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

FENCE = re.compile(r'^```(\w+)(?: title="([^"]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
NOT_RUN = "not run: "
COMMAND = f'spladerunner() {{ {shlex.quote(sys.executable)} -m spladerunner "$@"; }}\n'
"""The command as a shell function, for environments in which the script is not installed."""


class Block(NamedTuple):
    """A fenced block: language, title or "", content, and the line that its content begins on."""

    language: str
    title: str
    content: str
    line: int

    @property
    def runs(self) -> bool:
        """Python, sh and console blocks run, unless their title says that and why they do not."""
        return self.language in ("python", "sh", "console") and not self.title.startswith(NOT_RUN)


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page."""
    for found in FENCE.finditer(text):
        yield Block(found[1], found[2] or "", found[3], text.count("\n", 0, found.start(3)) + 1)


def commands(session: str) -> list[tuple[str, str]]:
    """The commands of a terminal session, each with the output shown below it."""
    return re.findall(r"^\$ ([^\n]*)\n(.*?)(?=^\$ |\Z)", session, re.MULTILINE | re.DOTALL)


def cut_the_network() -> None:
    """Lets sockets connect to this machine alone."""
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "localhost", "::1"):
            raise OSError(f"a page of the documentation connects to {address}")
        connect(self, address)

    socket.socket.connect = connect_here  # type: ignore[method-assign, assignment]


def run(page: Path) -> list[str]:
    """The output of each block, "" for those that do not run."""
    names: dict[str, Any] = {"__name__": "__main__"}
    outputs = []
    for block in blocks(page.read_text(encoding="utf-8")):
        output = ""
        if block.runs and block.language == "python":
            with redirect_stdout(io.StringIO()) as printed:
                exec(compile("\n" * (block.line - 1) + block.content, str(page), "exec"), names)
            output = printed.getvalue()
        elif block.runs and block.language == "sh":
            output = subprocess.check_output(["sh", "-e", "-c", COMMAND + block.content], text=True)
        elif block.runs:
            from tests.test_cli import in_terminal

            for command, _ in commands(block.content):
                program, *arguments = shlex.split(command)
                assert program == "spladerunner", command
                output += in_terminal(*arguments, columns=80)
        elif re.fullmatch(r"[\w/.-]+\.\w+", block.title):
            path = Path(block.title)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.content, encoding="utf-8")
        outputs.append(output)
    return outputs


if __name__ == "__main__":
    cut_the_network()
    json.dump(run(Path(sys.argv[1])), sys.stdout)
