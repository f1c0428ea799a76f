"""The command `spladerunner fetch`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from spladerunner.cli.terminal import escaped
from spladerunner.model.hub import fetch, split_revision

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "fetch",
        help="download a model to the cache",
        description="Downloads a model to the Hub's cache, from which every command loads it without the network, and "
        "prints its folder.",
    )
    parser.add_argument("model", metavar="NAME[@REVISION]", help="a known model, or a repository on the Hub")
    parser.add_argument("--revision", help="a branch, tag or commit (default: the repository's default branch)")
    parser.add_argument(
        "--update", action="store_true", help="download what has changed on the Hub, and files that are damaged"
    )
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> None:
    name, revision = split_revision(options.model)
    if revision and options.revision:
        parser: argparse.ArgumentParser = options.parser
        parser.error(f"the revision is given twice: {options.model} and --revision {options.revision}")
    folder = fetch(name, revision=revision or options.revision, update=options.update)
    if sys.stdout.isatty():
        print(escaped(str(folder)))
    else:
        sys.stdout.buffer.write(os.fsencode(folder) + os.linesep.encode())
