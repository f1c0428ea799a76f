"""The command `spladerunner push`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from spladerunner.cli.terminal import escaped

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "push",
        help="upload a bundle to the Hub",
        description="Uploads a bundle to a repository on the Hub, as one commit, and prints its address. The "
        "repository is made if it does not exist.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="the bundle, as export wrote it")
    parser.add_argument("repository", metavar="REPOSITORY", help="OWNER/NAME on the Hub")
    parser.add_argument("--public", action="store_true", help="a repository that everyone may read (default: private)")
    parser.add_argument("--overwrite", action="store_true", help="replace the files that the repository holds")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from spladerunner.model.push import push

    print(escaped(push(options.folder, options.repository, public=options.public, overwrite=options.overwrite)))
