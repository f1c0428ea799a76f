"""The command line. What the library raises on purpose becomes one line on standard error, and exit status 1."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BufferedReader
from itertools import islice
from typing import cast

from spladerunner import Expander, MissingExtraError, SpladeRunnerError, __version__, list_models
from spladerunner.bundle import RoleName
from spladerunner.registry import EMBEDDED, embedded_folder
from spladerunner.terminal import SHOWN, bars, explanation_table, table

_INTERRUPTED = 130
_PIPE_CLOSED = 141
"""What a shell reports of a program that the signal ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], None] = options.run
    try:
        run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes standard output once more as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (SpladeRunnerError, OSError) as error:
        print(f"spladerunner: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spladerunner", description="SPLADE sparse expansion without torch.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    expand = commands.add_parser("expand", help="texts to weighted tokens")
    expand.add_argument("texts", nargs="*", metavar="TEXT", help="unless given, a text a line from standard input")
    expand.add_argument("--query", action="store_true", help="the texts are queries, not documents")
    expand.add_argument("--top", type=_count, metavar="N", help="the N heaviest tokens alone")
    _add_json(expand, "a JSON object a line, as is printed anyway where output is not a terminal")
    _add_model(expand)
    expand.set_defaults(run=_expand)

    explain = commands.add_parser("explain", help="which tokens a query and a document share")
    explain.add_argument("query", metavar="QUERY")
    explain.add_argument("document", metavar="DOCUMENT")
    _add_json(explain, "one JSON object, as is printed anyway where output is not a terminal")
    _add_model(explain)
    explain.set_defaults(run=_explain)

    models = commands.add_parser("models", help="what is embedded and known")
    models.set_defaults(run=_models)

    export = commands.add_parser("export", help="a checkpoint, or a pair of them, to a bundle")
    export.add_argument("--doc", required=True, metavar="CHECKPOINT", help="folder of the document model")
    export.add_argument("--query", metavar="CHECKPOINT", help="folder of the query model; unless given, the same model")
    export.add_argument("-o", "--output", required=True, metavar="FOLDER", help="the bundle; must not exist")
    export.add_argument("--name", help="the model's name; unless given, the folder's")
    export.add_argument("--licence", help="the licence of the weights, as an SPDX identifier")
    export.add_argument("--accept-drift", action="store_true", help="keep a bundle that falls short in verification")
    export.set_defaults(run=_export)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default=EMBEDDED, metavar="NAME|FOLDER", help=f"unless given, the embedded {EMBEDDED}"
    )


def _add_json(parser: argparse.ArgumentParser, help_text: str) -> None:
    parser.add_argument("--json", action="store_true", help=help_text)


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{count} is less than 1")
    return count


def _expand(options: argparse.Namespace) -> None:
    expander = Expander(options.model)
    role: RoleName = "query" if options.query else "doc"
    weigh = expander.expand_query if options.query else expander.expand
    in_json = _prepare_output(options)
    for texts in [options.texts] if options.texts else _available_lines(cast(BufferedReader, sys.stdin.buffer)):
        for text, weights in zip(texts, weigh(texts), strict=True):
            top = options.top if in_json else options.top or SHOWN
            drawn = dict(islice(weights.items(), top))
            if in_json:
                print(json.dumps(drawn, ensure_ascii=False))
            else:
                width = shutil.get_terminal_size().columns
                left_out = 0 if options.top else len(weights) - len(drawn)
                own = expander.own_tokens(text, role=role)
                print(f"{_shortened(text, width)}\n{bars(drawn, own, width, left_out)}\n")
        sys.stdout.flush()


def _explain(options: argparse.Namespace) -> None:
    explanation = Expander(options.model).explain(options.query, options.document)
    if _prepare_output(options):
        shared = [match._asdict() for match in explanation.shared]
        print(json.dumps({"score": explanation.score, "shared": shared}, ensure_ascii=False))
    else:
        print(explanation_table(explanation))


def _models(_: argparse.Namespace) -> None:
    megabytes = sum(path.stat().st_size for path in embedded_folder().iterdir()) / 1e6
    rows = [
        (
            spec.name,
            f"{spec.parameters:g} M",
            spec.shape,
            spec.licence,
            "yes" if spec.commercial_use else "no",
            f"embedded, {megabytes:.1f} MB" if spec.name == EMBEDDED else spec.source,
        )
        for spec in list_models()
    ]
    print(table(("name", "parameters", "shape", "licence", "commercial use", "source"), rows, right=(1,)))


def _export(options: argparse.Namespace) -> None:
    try:
        pipeline = importlib.import_module("spladerunner.export.pipeline")
    except ImportError as error:
        raise MissingExtraError(
            f"The export needs packages that are not installed ({error}): pip install 'spladerunner[export]'"
        ) from error
    pipeline.export_bundle(
        options.doc,
        options.output,
        options.query,
        name=options.name,
        licence=options.licence,
        accept_drift=options.accept_drift,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )


def _prepare_output(options: argparse.Namespace) -> bool:
    """Whether to print JSON. JSON is UTF-8 wherever it goes; a terminal shows what it can."""
    in_json = options.json or not sys.stdout.isatty()
    if hasattr(sys.stdout, "reconfigure"):
        if in_json:
            sys.stdout.reconfigure(encoding="utf-8")
        else:
            sys.stdout.reconfigure(errors="replace")
    return in_json


def _available_lines(file: BufferedReader) -> Iterator[list[str]]:
    """Lines as they arrive, in lists of those that are there at once: a slow writer is answered line by line."""
    rest = b""
    while chunk := file.read1(1 << 16):
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield list(_decoded(lines))
    if rest:
        yield list(_decoded([rest]))


def _decoded(lines: Iterable[bytes]) -> Iterator[str]:
    return (line.removesuffix(b"\r").decode("utf-8", "replace") for line in lines)


def _shortened(text: str, width: int) -> str:
    line = " ".join(text[: 4 * width].split())
    return line if len(line) <= width else line[: width - 1] + "…"


if __name__ == "__main__":
    sys.exit(main())
