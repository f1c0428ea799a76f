"""The command `spladerunner models`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from spladerunner.cli.terminal import table
from spladerunner.model.registry import list_models
from spladerunner.models import EMBEDDED, embedded_folder

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_SEE_CARD = "see its card"


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "models",
        help="list the known models",
        description="Lists the known models, with their licenses and the scores that their authors publish.",
    )
    parser.set_defaults(run=_run)


def _run(_: argparse.Namespace) -> None:
    megabytes = sum(path.stat().st_size for path in embedded_folder().iterdir()) / 1e6
    rows = [
        (
            spec.name,
            f"{spec.parameters:g} M",
            spec.shape,
            spec.license or _SEE_CARD,
            {True: "yes", False: "no", None: _SEE_CARD}[spec.commercial_use],
            spec.score or _SEE_CARD,
            f"embedded, {megabytes:.1f} MB" if spec.name == EMBEDDED else f"{spec.onnx or spec.source} on the Hub",
        )
        for spec in list_models()
    ]
    print(table(("name", "parameters", "shape", "license", "commercial use", "score", "source"), rows, right=(1,)))
