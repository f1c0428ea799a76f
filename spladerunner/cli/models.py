"""The command `spladerunner models`."""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING

from spladerunner.cli.options import add_json_option
from spladerunner.cli.terminal import json_line
from spladerunner.errors import UnknownModelError
from spladerunner.model.registry import ModelSpec, list_models
from spladerunner.models import embedded_folder

if TYPE_CHECKING:
    from argparse import _SubParsersAction

WIDTH = 80
_USE = {True: "commercial use allowed", False: "no commercial use", None: "license not stated, see its card"}


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "models",
        help="list the known models",
        description="Lists the known models: shape, parameters and vocabulary, license, the scores that their authors "
        "publish, and the command to run before the model can be opened.",
    )
    parser.add_argument(
        "word", nargs="?", default="", metavar="WORD", help="only models with this word in name, shape or license"
    )
    parser.add_argument("--commercial", action="store_true", help="only models whose license allows commercial use")
    parser.add_argument("--language", metavar="CODE", help="only models for a language, such as en or ko")
    add_json_option(parser, "print a JSON array, with the page that publishes each license and score")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    found = [
        spec
        for spec in list_models()
        if (spec.commercial_use or not options.commercial)
        and options.language in (None, *spec.languages)
        and options.word.lower() in f"{spec.name} {spec.shape} {spec.license}".lower()
    ]
    if not found:
        raise UnknownModelError(
            "No known model matches. Without WORD, --commercial and --language, all are listed; the Hub has others.",
            name=options.word,
        )
    if options.json:
        print("[", ",\n ".join(json_line(_record(spec)) for spec in found), "]", sep="")
    else:
        print("\n".join(line for spec in found for line in _lines(spec)))


def _lines(spec: ModelSpec) -> list[str]:
    """The entry of a model, in lines of at most WIDTH columns. A command goes on after a backslash, as in a shell."""
    license = f"{spec.license}, {_USE[spec.commercial_use]}" if spec.license else _USE[None]
    facts = [
        f"{spec.shape}, {spec.parameters:g} M parameters, {spec.vocabulary:,} tokens",
        f"{license}; {', '.join(spec.languages)}",
    ]
    if spec.score:
        facts.append(spec.score)
    lines = [line for fact in facts for line in textwrap.wrap(fact, WIDTH - 2)]
    if spec.command is None:
        size = sum(path.stat().st_size for path in embedded_folder().iterdir())
        lines.append(f"part of the package, {size / 1e6:.1f} MB; the default")
    else:
        wrapped = textwrap.wrap(f"$ {spec.command}", WIDTH - 6, break_on_hyphens=False, break_long_words=False)
        lines += " \\\n    ".join(wrapped).splitlines()
    return [spec.name, *(line if line.startswith("    ") else f"  {line}" for line in lines)]


def _record(spec: ModelSpec) -> dict[str, object]:
    return {**spec._asdict(), "commercial_use": spec.commercial_use, "command": spec.command}
