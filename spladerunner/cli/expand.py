"""The command `spladerunner expand`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from io import BufferedReader
from itertools import islice
from typing import TYPE_CHECKING, cast

from spladerunner.cli.options import add_json_option, add_model_options, open_expander, positive_count
from spladerunner.cli.terminal import SHOWN, bars, has_color, json_line, legend, say, set_up_output, shortened
from spladerunner.model.manifest import RoleName

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "expand",
        help="expand texts to weighted tokens",
        description="Expands texts to weighted tokens, heaviest first: bars on a terminal, otherwise JSON.",
    )
    parser.add_argument(
        "texts", nargs="*", metavar="TEXT", help="a text (default: each line of standard input is a text)"
    )
    parser.add_argument("--query", action="store_true", help="the texts are queries, not documents")
    parser.add_argument("--top", type=positive_count, metavar="N", help="only the N heaviest tokens")
    add_json_option(parser, "print a JSON object per text, also on a terminal")
    add_model_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    expander = open_expander(options)
    role: RoleName = "query" if options.query else "doc"
    expand = expander.expand_query if options.query else expander.expand
    as_json = set_up_output(options.json)
    color = has_color()
    if not options.texts and sys.stdin.isatty():
        say(f"type a text and press Enter; {'Ctrl-Z and Enter end' if os.name == 'nt' else 'Ctrl-D ends'}")
    for texts in [options.texts] if options.texts else _available_lines(cast(BufferedReader, sys.stdin.buffer)):
        for text, weights in zip(texts, expand(texts), strict=True):
            top = options.top if as_json else options.top or SHOWN
            shown = dict(islice(weights.items(), top))
            if as_json:
                print(json_line(shown))
            else:
                width = shutil.get_terminal_size().columns
                left_out = 0 if options.top else len(weights) - len(shown)
                own = expander.own_tokens(text, role=role)
                print(f"{shortened(text, width)}\n{bars(shown, own, width, left_out, color=color)}\n")
        sys.stdout.flush()
    if not as_json:
        print(legend(color=color))


def _available_lines(file: BufferedReader) -> Iterator[list[str]]:
    """Yields lists of the lines that one read returns, so that a slow writer gets its results line by line."""
    rest: list[bytes] = []
    while chunk := file.read1(1 << 16):
        if b"\n" in chunk:
            *lines, last = b"".join([*rest, chunk]).split(b"\n")
            yield list(_decoded(lines))
            rest = [last]
        else:
            rest.append(chunk)
    if any(rest):
        yield list(_decoded([b"".join(rest)]))


def _decoded(lines: Iterable[bytes]) -> Iterator[str]:
    return (line.removesuffix(b"\r").decode("utf-8", "replace") for line in lines)
