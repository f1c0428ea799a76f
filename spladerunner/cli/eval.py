"""The command `spladerunner eval`."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spladerunner.atomic_file import write_atomically
from spladerunner.cli.options import MODEL, add_model_options, open_expander, positive_count, positive_weight, share
from spladerunner.cli.terminal import escaped, fitted_table, say, set_up_output
from spladerunner.errors import requires_extra
from spladerunner.models import EMBEDDED

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from spladerunner.evaluation.collection import Caveat
    from spladerunner.evaluation.means import Means
    from spladerunner.evaluation.results import Evaluation
    from spladerunner.evaluation.systems import Pruning

FORMATS = ("text", "markdown", "latex", "csv")

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
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="a collection in BEIR's or MS MARCO's layout")
    parser.add_argument("--split", help="of the judgments (default: test in BEIR's layout, dev.small in MS MARCO's)")
    parser.add_argument("--compare", nargs="+", metavar=MODEL, help="several models in one table, instead of --model")
    parser.add_argument(
        "--measures",
        nargs="+",
        metavar="MEASURE",
        help="measures of ir_measures, such as nDCG@10 AP 'P(rel=2)@5'; systems are compared on the first",
    )
    _add_prunings(parser)
    parser.add_argument(
        "--fuse", action="store_true", help="also fuse each model with BM25, by reciprocal rank and by weighted scores"
    )
    parser.add_argument(
        "--fuse-weight",
        type=share,
        default=0.5,
        metavar="W",
        help="the model's weight in --fuse; tune it on another split (default: %(default)s)",
    )
    parser.add_argument(
        "--format", choices=FORMATS, default=FORMATS[0], help="of the tables that are printed (default: %(default)s)"
    )
    parser.add_argument("-o", "--output", metavar="FOLDER", help="write result.json and a TREC run for each system")
    parser.add_argument(
        "--html",
        metavar="FILE",
        help=f"write a report; unless a pruning is named, with --top {', '.join(map(str, REPORT_TOPS))}",
    )
    add_model_options(parser, default_model=False)
    parser.set_defaults(run=_run)


def _add_prunings(parser: argparse.ArgumentParser) -> None:
    """Adds --top and its like for documents and, with --query-, for queries."""
    for prefix, whose in (("", "document"), ("query-", "query")):
        for option, kind, metavar, kept in (
            ("top", positive_count, "N", f"each {whose}'s N largest weights"),
            ("min-weight", positive_weight, "W", f"{whose} weights of at least W"),
            ("max-ratio", share, "R", f"{whose} weights of at least R times the {whose}'s largest"),
        ):
            parser.add_argument(
                f"--{prefix}{option}",
                type=kind,
                action="append",
                default=[],
                metavar=metavar,
                help=f"also evaluate with {kept}; may be repeated",
            )


def _run(options: argparse.Namespace) -> None:
    if options.model and options.compare:
        options.parser.error("argument --compare: not allowed with argument --model")
    with requires_extra("eval", "Evaluation"):
        from spladerunner.evaluation.collection import Collection
        from spladerunner.evaluation.means import Means
        from spladerunner.evaluation.measures import DEFAULT_MEASURES, parse_measure
        from spladerunner.evaluation.results import evaluate
        from spladerunner.evaluation.systems import BASELINE

        if options.html:
            from spladerunner.evaluation import report

    measures = tuple(dict.fromkeys(options.measures or DEFAULT_MEASURES))
    for name in measures:
        try:
            parse_measure(name)
        except ValueError as error:
            options.parser.error(f"argument --measures: {error}")
    for path in (options.output, options.html and Path(options.html).absolute().parent):
        if path:
            Path(path).mkdir(parents=True, exist_ok=True)  # a folder that cannot be written fails before the encoding
    collections = [Collection.read(folder, options.split) for folder in options.folders]
    for collection in collections:
        _warn(collection.caveats)
    models = list(dict.fromkeys(options.compare or [options.model or EMBEDDED]))
    expanders = [open_expander(options, model) for model in models]
    names = [expander.name for expander in expanders]
    if len({*names, BASELINE}) <= len(names):
        names = models
    evaluations = []
    for collection in collections:
        evaluation = evaluate(
            collection,
            expanders,
            _prunings(options, REPORT_TOPS if options.html else ()),
            _prunings(options, prefix="query_"),
            names=names,
            measures=measures,
            fusion_weight=options.fuse_weight if options.fuse else None,
            progress=say,
        )
        _warn(evaluation.caveats[len(collection.caveats) :])
        evaluations.append(evaluation)
    means = Means(evaluations)
    if options.output:
        (evaluations[0] if len(evaluations) == 1 else means).save(options.output)
    if options.html:
        for name, evaluation in zip(means.folders(), evaluations, strict=True):
            path = Path(options.html)
            path = path if len(evaluations) == 1 else path.with_name(f"{path.stem}-{name}{path.suffix}")
            write_atomically(path, report.page(evaluation, dict(zip(names, expanders, strict=True))))
    in_terminal = sys.stdout.isatty()
    set_up_output(as_json=False)
    print(drawn(means, options.format, shutil.get_terminal_size().columns if in_terminal else sys.maxsize))


def _prunings(options: argparse.Namespace, default_tops: Sequence[int] = (), prefix: str = "") -> list[Pruning]:
    """The prunings that the options name, after none; default_tops if they name none."""
    from spladerunner.evaluation.systems import UNPRUNED, Pruning

    tops, weights, ratios = (getattr(options, prefix + name) for name in ("top", "min_weight", "max_ratio"))
    if not (tops or weights or ratios):
        tops = default_tops
    prunings = [
        UNPRUNED,
        *(Pruning(top=top) for top in tops),
        *(Pruning(min_weight=weight) for weight in weights),
        *(Pruning(max_ratio=ratio) for ratio in ratios),
    ]
    return list(dict.fromkeys(prunings))


def _warn(caveats: Iterable[Caveat]) -> None:
    for caveat in caveats:
        say(f"warning: {caveat}")


def drawn(means: Means, format: str = FORMATS[0], width: int = sys.maxsize) -> str:
    """The figures of every collection and, of several, their means. width: columns of the terminal."""
    from spladerunner.evaluation import tables

    if format == "csv":
        return tables.csv_text(means).rstrip("\n")
    several = len(means.evaluations) > 1
    if format == "text":
        parts = [_text(evaluation, width) for evaluation in means.evaluations]
        if several:
            rows = [(row.label, *(cell.text for cell in row.cells)) for row in means.rows()]
            head = ("", *map(escaped, means.systems))
            parts.append(f"mean of {len(means.evaluations)} collections\n\n{fitted_table(head, rows, width)}")
        notes = [textwrap.fill(escaped(note), min(width, 1000)) for note in means.evaluations[0].notes()]
    else:
        draw, comment = (tables.markdown, "- ") if format == "markdown" else (tables.latex, "% ")
        parts = []
        for evaluation in means.evaluations:
            parts.append(draw(tables.systems_table(evaluation)))
            if len(evaluation.model_systems) > 1:
                parts.append(draw(tables.pairs_table(evaluation)))
        parts += [draw(tables.means_table(means))] if several else []
        notes = [comment + note for note in means.evaluations[0].notes()]
    return "\n\n".join([*parts, "\n".join(notes)])


def _text(evaluation: Evaluation, width: int) -> str:
    """The figures of a collection, a column for each system, and the comparisons of its models with one another."""
    from spladerunner.evaluation import tables

    rows = [(row.label, *(cell.text for cell in row.cells)) for group in evaluation.rows().values() for row in group]
    head = ("", *(escaped(system.name) for system in evaluation.systems))
    parts = [escaped(f"{evaluation.title}: {evaluation.size}"), fitted_table(head, rows, width)]
    pairs = tables.pairs_table(evaluation)
    if pairs.rows:
        lines = [(escaped(name), *(cell.text for cell in cells)) for name, cells in pairs.rows]
        parts.append(fitted_table([f"difference in {evaluation.main}", "", *pairs.head[2:]], lines, width))
    return "\n\n".join(parts)
