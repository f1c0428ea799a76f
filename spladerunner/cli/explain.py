"""The command `spladerunner explain`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from spladerunner.atomic_file import write_atomically
from spladerunner.cli.options import add_json_option, add_model_options, open_expander
from spladerunner.cli.terminal import escaped, explanation_table, json_line, set_up_output
from spladerunner.errors import InputError

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "explain",
        help="show the tokens that a query and a document share",
        description="Shows the tokens that a query and a document share, with both weights and their product: a table "
        "on a terminal, otherwise JSON.",
    )
    source = "- reads standard input, @FILE a file"
    parser.add_argument("query", metavar="QUERY", help=f"the text of the query; {source}")
    parser.add_argument("document", metavar="DOCUMENT", help=f"the text of the document; {source}")
    output = parser.add_mutually_exclusive_group()
    add_json_option(output, "print a JSON object, also on a terminal")
    output.add_argument(
        "--html", nargs="?", const="-", metavar="FILE", help="write an HTML page (default: to standard output)"
    )
    add_model_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if options.query == options.document == "-":
        options.parser.error("only one of QUERY and DOCUMENT can be -, which reads all of standard input")
    query, document = _text(options.query), _text(options.document)
    explanation = open_expander(options).explain(query, document)
    if options.html is not None:
        from spladerunner.explanation_page import page

        html = page(explanation)
        if options.html == "-" and sys.stdout.isatty():
            print("\n".join(map(escaped, html.split("\n"))))
        elif options.html == "-":
            sys.stdout.buffer.write(html.encode("utf-8"))
        else:
            write_atomically(options.html, html)
    elif set_up_output(options.json):
        shared = [match._asdict() for match in explanation.shared]
        print(json_line({"score": explanation.score, "shared": shared}))
    else:
        print(explanation_table(explanation))


def _text(argument: str) -> str:
    """The text itself, standard input for "-", or the content of a file for "@FILE", without the last line end."""
    if argument == "-":
        content = sys.stdin.buffer.read()
    elif argument.startswith("@"):
        path = Path(argument[1:])
        try:
            content = path.read_bytes()
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} cannot be read: {error}. A text that begins with @ can come from standard input, as -.",
                path=path,
            ) from error
    else:
        return argument
    return content.decode("utf-8-sig", "replace").removesuffix("\n").removesuffix("\r")
