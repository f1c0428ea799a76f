"""The command line: its parser, and the exit status of a command.

An error that the library raises on purpose is printed as one line on standard error, with exit status 1.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from spladerunner import SpladeRunnerError, __version__
from spladerunner.cli import check, completion, doctor, encode, expand, explain, export, fetch, models, push
from spladerunner.cli import eval as evaluate
from spladerunner.cli.exit_status import INTERRUPTED, PIPE_CLOSED
from spladerunner.cli.terminal import escaped, say


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    if sys.stderr is None:
        # The null device gets the descriptor 2: no file that a command opens may receive what libraries print there.
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    try:
        if sys.stdout is None or sys.stdin is None:
            raise OSError("standard input and standard output must be open")
        try:
            options = build_parser().parse_args(arguments)
        finally:
            sys.stdout.flush()  # --help prints and raises SystemExit
        run: Callable[[argparse.Namespace], int | None] = options.run
        status = run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        return PIPE_CLOSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except (SpladeRunnerError, OSError) as error:
        say(" ".join(str(error).split()))
        _discard_output()
        return 1
    finally:
        _discard_unwritten_errors()
    return status or 0


def build_parser() -> argparse.ArgumentParser:
    """Builds the parser of all commands. Each command sets `run`, a function of the parsed options."""
    parser: argparse.ArgumentParser = _Parser(prog="spladerunner", description="SPLADE sparse expansion without torch.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (expand, explain, check, models, fetch, encode, export, push, evaluate, doctor):
        command.add_parser(commands)
    completion.add_parser(commands, parser)
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Reports a usage error, which may quote what was given."""
        super().error(escaped(message))


def _discard_unwritten_errors() -> None:
    """Redirects standard error to the null device if it is full, as Python flushes it once more at exit."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _discard_output() -> None:
    """Redirects standard output to the null device, as Python flushes it once more at exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
