"""The command line. What the library raises on purpose becomes one line on standard error, and exit status 1."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BufferedReader
from itertools import islice
from typing import cast

from spladerunner import Expander, SpladeRunnerError, __version__, fetch, list_models
from spladerunner.atomic_file import write_atomically
from spladerunner.cli import encode as encode_command
from spladerunner.cli.eval import add_parser as add_eval
from spladerunner.cli.terminal import SHOWN, bars, explanation_table, shortened, table
from spladerunner.explanation import Explanation
from spladerunner.inference.pooling import ACTIVATIONS, POOLINGS
from spladerunner.model.manifest import RoleName
from spladerunner.model.registry import EMBEDDED, embedded_folder

_SEE_CARD = "see its card"

_INTERRUPTED = 130
_TERMINATED = 143
_PIPE_CLOSED = 141
"""What a shell reports of a program that the signal ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    try:
        if sys.stdout is None or sys.stdin is None:
            raise OSError("standard input and standard output must be open")
        try:
            options = _parser().parse_args(arguments)
        finally:
            sys.stdout.flush()  # where help was asked for, the program ends here
        run: Callable[[argparse.Namespace], None] = options.run
        run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (SpladeRunnerError, OSError) as error:
        print(f"spladerunner: {' '.join(str(error).split())}", file=sys.stderr)
        _drop_output()
        return 1
    return 0


def _drop_output() -> None:
    """What is still to be written goes nowhere: Python flushes standard output once more as it ends."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
    shape = explain.add_mutually_exclusive_group()
    _add_json(shape, "one JSON object, as is printed anyway where output is not a terminal")
    shape.add_argument("--html", nargs="?", const="-", metavar="FILE", help="a page, to a file or standard output")
    _add_model(explain)
    explain.set_defaults(run=_explain)

    models = commands.add_parser("models", help="what is embedded and known")
    models.set_defaults(run=_models)

    fetch = commands.add_parser("fetch", help="download a model ahead of time")
    fetch.add_argument("model", metavar="NAME", help="a known model, or a repository on the Hub")
    fetch.add_argument("--revision", help="a branch, tag or commit; unless given, the default branch")
    fetch.add_argument("--update", action="store_true", help="ask the Hub whether the revision has moved")
    fetch.set_defaults(run=_fetch)

    encode_command.add_parser(commands)

    export = commands.add_parser("export", help="a checkpoint, or a pair of them, to a bundle")
    source = "FOLDER|REPOSITORY[@REVISION]"
    export.add_argument("--doc", required=True, metavar=source, help="the document model, on disk or on the Hub")
    export.add_argument("--query", metavar=source, help="the query model; unless given, what the document model says")
    export.add_argument("-o", "--output", required=True, metavar="FOLDER", help="the bundle; must not exist")
    export.add_argument(
        "--for", dest="target", choices=("cpu", "cuda"), default="cpu", help="int8 for CPUs, or float16 for CUDA"
    )
    export.add_argument("--inference-free", action="store_true", help="queries need no model: each token weighs 1")
    export.add_argument("--pooling", choices=POOLINGS, help="where the checkpoint's files do not say it")
    export.add_argument("--activation", choices=tuple(ACTIVATIONS), help="where the checkpoint's files do not say it")
    export.add_argument("--allow-pickle", action="store_true", help="take weights that are not safetensors")
    export.add_argument("--name", help="the model's name; unless given, the folder's")
    export.add_argument("--license", help="of the weights, as an SPDX identifier; unless given, what their card says")
    export.add_argument("--accept-drift", action="store_true", help="keep a bundle that falls short in verification")
    export.set_defaults(run=_export)

    add_eval(commands)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default=EMBEDDED, metavar="NAME|FOLDER", help=f"unless given, the embedded {EMBEDDED}"
    )


def _add_json(parser: argparse._ActionsContainer, help_text: str) -> None:
    parser.add_argument("--json", action="store_true", help=help_text)


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{count} is less than 1")
    return min(count, sys.maxsize)


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
                print(f"{shortened(text, width)}\n{bars(drawn, own, width, left_out)}\n")
        sys.stdout.flush()


def _explain(options: argparse.Namespace) -> None:
    explanation = Expander(options.model).explain(options.query, options.document)
    if options.html is not None:
        _write_page(explanation, options.html)
    elif _prepare_output(options):
        shared = [match._asdict() for match in explanation.shared]
        print(json.dumps({"score": explanation.score, "shared": shared}, ensure_ascii=False))
    else:
        print(explanation_table(explanation))


def _write_page(explanation: Explanation, path: str) -> None:
    page = importlib.import_module("spladerunner.explanation_page").page(explanation)
    if path == "-":
        sys.stdout.buffer.write(page.encode("utf-8"))
    else:
        write_atomically(path, page)


def _models(_: argparse.Namespace) -> None:
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
    print(table(("name", "parameters", "shape", "licence", "commercial use", "score", "source"), rows, right=(1,)))


def _fetch(options: argparse.Namespace) -> None:
    print(fetch(options.model, revision=options.revision, update=options.update))


def _export(options: argparse.Namespace) -> None:
    from spladerunner.export import ExportOptions, export_bundle

    # Ended by a signal, an export still clears up behind itself.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    export_bundle(
        ExportOptions(
            doc=options.doc,
            output=options.output,
            query=options.query,
            target=options.target,
            inference_free=options.inference_free,
            pooling=options.pooling,
            activation=options.activation,
            allow_pickle=options.allow_pickle,
            name=options.name,
            license=options.license,
            accept_drift=options.accept_drift,
        ),
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
