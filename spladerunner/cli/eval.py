"""The command `spladerunner eval`."""

from __future__ import annotations

import argparse
import importlib
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from spladerunner.atomic_file import write_atomically
from spladerunner.errors import MissingExtraError
from spladerunner.expander import Expander
from spladerunner.model.registry import EMBEDDED

if TYPE_CHECKING:
    from argparse import _SubParsersAction

PICTURED = (16, 32, 64, 128)
"""The prunings of a report, unless others are given."""


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser("eval", help="measure models on a judged collection, beside BM25")
    parser.add_argument("folder", metavar="FOLDER", help="a collection in BEIR's or MS MARCO's layout")
    parser.add_argument("--split", help="of the judgements; unless given, test (BEIR) or dev.small (MS MARCO)")
    models = parser.add_mutually_exclusive_group()
    models.add_argument("--model", metavar="NAME|FOLDER", help=f"unless given, the embedded {EMBEDDED}")
    models.add_argument("--compare", nargs="+", metavar="MODEL", help="several models in one table")
    parser.add_argument(
        "--top", type=_count, action="append", default=[], metavar="N", help="keep a document's N heaviest weights too"
    )
    parser.add_argument(
        "--min-weight", type=_weight, action="append", default=[], metavar="W", help="keep weights of at least W too"
    )
    parser.add_argument("-o", "--output", metavar="FOLDER", help="write result.json and a TREC run for each system")
    parser.add_argument(
        "--html",
        metavar="FILE",
        help=f"write a report page; unless prunings are given, with the top {', '.join(map(str, PICTURED))}",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    try:
        evaluation = importlib.import_module("spladerunner.evaluation.results")
        systems = importlib.import_module("spladerunner.evaluation.systems")
        report = importlib.import_module("spladerunner.evaluation.report")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("spladerunner"):
            raise
        raise MissingExtraError(
            f"The evaluation needs packages that are not installed ({error}): pip install 'spladerunner[eval]'"
        ) from error
    from spladerunner.evaluation.collection import Collection

    for path in (options.output, options.html and Path(options.html).absolute().parent):
        if path:
            Path(path).mkdir(parents=True, exist_ok=True)  # what cannot be written shall not cost an hour first
    collection = Collection.read(options.folder, options.split)
    for warning in collection.warnings:
        _say(f"warning: {warning}")
    models = list(dict.fromkeys(options.compare or [options.model or EMBEDDED]))
    expanders = [Expander(model) for model in models]
    names = [expander.name for expander in expanders]
    if len({*names, systems.BASELINE}) <= len(names):
        names = models
    tops = options.top or (PICTURED if options.html and not options.min_weight else ())
    prunings = dict.fromkeys(
        [systems.UNPRUNED]
        + [systems.Pruning(top=top) for top in tops]
        + [systems.Pruning(min_weight=weight) for weight in options.min_weight]
    )
    result = evaluation.evaluate(collection, expanders, list(prunings), names=names, progress=_say)
    for warning in result.warnings[len(collection.warnings) :]:
        _say(f"warning: {warning}")
    print(result.table())
    if options.output:
        result.save(options.output)
    if options.html:
        write_atomically(options.html, report.page(result, expanders[0]))


def _say(line: str) -> None:
    print(f"spladerunner: {line}", file=sys.stderr, flush=True)


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{count} is less than 1")
    return count


def _weight(text: str) -> float:
    weight = float(text)
    if not (math.isfinite(weight) and weight > 0):
        raise argparse.ArgumentTypeError(f"{text} is no positive number")
    return weight
