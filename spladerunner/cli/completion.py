"""The command `spladerunner completion`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from spladerunner.errors import requires_extra

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_PATHS = ("FILE", "FOLDER", "INPUT", "OUT")


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser], program: argparse.ArgumentParser) -> None:
    """Adds the command to the command line, whose parser is `program`."""
    parser = commands.add_parser(
        "completion",
        help="print a shell completion script",
        description="Prints a script that completes commands, options and files. For bash: "
        "spladerunner completion bash > ~/.local/share/bash-completion/completions/spladerunner",
    )
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell that will read the script")
    parser.set_defaults(run=partial(_run, program))


def _run(program: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    with requires_extra("completion", "Shell completion"):
        import shtab
    for action in _actions(program):
        if any(word in str(action.metavar) for word in _PATHS):
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # read by shtab
    print(shtab.complete(program, options.shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All arguments of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
