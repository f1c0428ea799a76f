"""The command `spladerunner eval`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from spladerunner.atomic_file import write_atomically
from spladerunner.cli.options import MODEL, add_model_options, open_expander, positive_count, positive_weight
from spladerunner.cli.terminal import escaped, say, set_up_output, table
from spladerunner.errors import requires_extra
from spladerunner.models import EMBEDDED

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from spladerunner.evaluation.results import Evaluation

REPORT_TOPS = (16, 32, 64, 128)
"""The prunings of a report, unless others are given."""


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "eval",
        help="compare models with BM25 on a judged collection",
        description="Compares models with BM25 on a judged collection: quality, index size and speed. Ids must not "
        "contain white space, as TREC run files cannot hold it.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="a collection in BEIR's or MS MARCO's layout")
    parser.add_argument("--split", help="of the judgments (default: test in BEIR's layout, dev.small in MS MARCO's)")
    parser.add_argument("--compare", nargs="+", metavar=MODEL, help="several models in one table, instead of --model")
    parser.add_argument(
        "--top",
        type=positive_count,
        action="append",
        default=[],
        metavar="N",
        help="also evaluate with each document's N largest weights; may be repeated",
    )
    parser.add_argument(
        "--min-weight",
        type=positive_weight,
        action="append",
        default=[],
        metavar="W",
        help="also evaluate with document weights of at least W; may be repeated",
    )
    parser.add_argument("-o", "--output", metavar="FOLDER", help="write result.json and a TREC run for each system")
    parser.add_argument(
        "--html",
        metavar="FILE",
        help=f"write a report; without --top and --min-weight, with --top {', '.join(map(str, REPORT_TOPS))}",
    )
    add_model_options(parser, default_model=False)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if options.model and options.compare:
        options.parser.error("argument --compare: not allowed with argument --model")
    with requires_extra("eval", "Evaluation"):
        from spladerunner.evaluation.collection import Collection
        from spladerunner.evaluation.results import evaluate
        from spladerunner.evaluation.systems import BASELINE, UNPRUNED, Pruning

        if options.html:
            from spladerunner.evaluation import report

    for path in (options.output, options.html and Path(options.html).absolute().parent):
        if path:
            Path(path).mkdir(parents=True, exist_ok=True)  # a folder that cannot be written fails before the encoding
    collection = Collection.read(options.folder, options.split)
    for caveat in collection.caveats:
        say(f"warning: {caveat}")
    models = list(dict.fromkeys(options.compare or [options.model or EMBEDDED]))
    expanders = [open_expander(options, model) for model in models]
    names = [expander.name for expander in expanders]
    if len({*names, BASELINE}) <= len(names):
        names = models
    tops = options.top or (REPORT_TOPS if options.html and not options.min_weight else ())
    prunings = dict.fromkeys(
        [
            UNPRUNED,
            *(Pruning(top=top) for top in tops),
            *(Pruning(min_weight=weight) for weight in options.min_weight),
        ]
    )
    evaluation = evaluate(collection, expanders, list(prunings), names=names, progress=say)
    for caveat in evaluation.caveats[len(collection.caveats) :]:
        say(f"warning: {caveat}")
    if options.output:
        evaluation.save(options.output)
    if options.html:
        write_atomically(options.html, report.page(evaluation, expanders[0]))
    set_up_output(as_json=False)
    print(drawn(evaluation))


def drawn(evaluation: Evaluation) -> str:
    """The figures as text, a column for each system."""
    rows = [(row.label, *(cell.text for cell in row.cells)) for group in evaluation.rows().values() for row in group]
    head = ("", *(system.name for system in evaluation.systems))
    return "\n".join(
        [
            escaped(f"{evaluation.title}: {evaluation.size}"),
            "",
            table(head, rows, right=range(1, len(head))),
            "",
            *map(escaped, evaluation.notes()),
        ]
    )
