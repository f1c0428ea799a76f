"""The command `spladerunner check`."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING

from spladerunner.cli.exit_status import DIFFERENT
from spladerunner.cli.options import add_json_option, add_model_options, open_expander
from spladerunner.cli.terminal import escaped, json_line, set_up_output, shortened
from spladerunner.errors import InputError
from spladerunner.model.manifest import RoleName

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from spladerunner.comparison import Comparison

WIDTH = 80
_SHOWN = 5


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "check",
        help="compare vectors of another system with the model's",
        description="Compares vectors that another system made with the model's, and says what explains a difference, "
        f"such as another pooling, activation or length. The exit status is 0 if they agree, {DIFFERENT} if not.",
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        help='JSON Lines of texts and vectors, {"text", "vector": {token: weight}} or {"text", "indices", "values"}; '
        "- reads standard input",
    )
    parser.add_argument("--query", action="store_true", help="the texts are queries, not documents")
    add_json_option(parser, "print a JSON object")
    add_model_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from spladerunner.comparison import compare
    from spladerunner.readers.vectors import read_vectors

    texts, vectors = [], []
    for line in read_vectors(options.file):
        if line.text is None:
            raise line.error("no text: a vector is compared with the model's of the same text")
        texts.append(line.text)
        vectors.append(line.vector)
    expander = open_expander(options)
    role: RoleName = "query" if options.query else "doc"
    try:
        comparison = compare(expander, texts, vectors, role=role)
    except ValueError as error:
        raise InputError(f"{options.file}: {error}.", path=options.file) from error
    set_up_output(options.json)
    print(json_line(asdict(comparison)) if options.json else _page(comparison, expander.name, role))
    return 0 if comparison.agrees else DIFFERENT


def _page(comparison: Comparison, model: str, role: RoleName) -> str:
    rows = [
        ("model", f"{model}, for {'documents' if role == 'doc' else 'queries'}"),
        ("texts", f"{comparison.texts:,}"),
        ("cosine, mean", f"{comparison.mean_cosine:.4f}"),
        ("cosine, worst", f"{comparison.worst_cosine:.4f}"),
        ("its text", comparison.worst_text),
        ("weights a text", f"{comparison.weights:.1f}, the model's {comparison.own_weights:.1f}"),
        ("missing tokens", _heaviest(comparison.missing)),
        ("extra tokens", _heaviest(comparison.extra)),
    ]
    label = max(len(name) for name, _ in rows) + 2
    lines = [f"{name:{label}}{shortened(value, WIDTH - label)}" for name, value in rows]
    return "\n".join([*lines, "", *_verdict(comparison)])


def _heaviest(weights: Mapping[str, float]) -> str:
    """The tokens with the most weight, and the number of all."""
    if not weights:
        return "none"
    shown = ", ".join(f"{token} {weight:.2f}" for token, weight in islice(weights.items(), _SHOWN))
    return f"{len(weights):,}: {shown}" + (", …" if len(weights) > _SHOWN else "")


def _verdict(comparison: Comparison) -> list[str]:
    if comparison.agrees:
        return ["They agree."]
    lines = ["They differ."] if comparison.findings else ["They differ, and no known mistake explains it."]
    for finding in comparison.findings:
        lines += textwrap.wrap(escaped(finding), WIDTH, initial_indent="- ", subsequent_indent="  ")
    if comparison.findings:
        lines.append(f"With this, {comparison.residual:.1%} of difference is left.")
    return lines
