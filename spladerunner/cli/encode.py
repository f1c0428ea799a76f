"""spladerunner encode: the command line of bulk encoding."""

from __future__ import annotations

import argparse
import signal
import sys

from spladerunner.model.manifest import ROLES
from spladerunner.model.registry import EMBEDDED

_TERMINATED = 143


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    encode = commands.add_parser(
        "encode",
        help="files of texts to a file of vectors",
        description="Killed at any moment and started again with the same command, it goes on where it was. "
        "Standard input must then give the same lines again, and cannot be split into parts.",
    )
    encode.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help=".jsonl, .tsv (id TAB text), .txt or .parquet; also .gz or .zst; or -",
    )
    encode.add_argument("-o", "--output", required=True, metavar="OUT", help="a line a text; must not exist")
    encode.add_argument("--role", choices=ROLES, default="doc", help="what the texts are; unless given, documents")
    encode.add_argument("--format", default="json", metavar="FORMAT", help="of a line of OUT; unless given, json")
    encode.add_argument(
        "--input-format", default="", choices=("jsonl", "tsv", "text", "parquet"), help="where no suffix tells it"
    )
    for field, name in (("id", "_id"), ("title", "title"), ("text", "text")):
        encode.add_argument(f"--{field}-field", default=name, metavar="NAME", help=f"unless given, {name}")
    encode.add_argument(
        "--shard", default="1/1", metavar="3/16", help="the third of 16 parts, which concatenate to OUT"
    )
    encode.add_argument("--skip-bad", action="store_true", help="bad lines go to OUT.bad.jsonl")
    encode.add_argument(
        "--model", default=EMBEDDED, metavar="NAME|FOLDER", help=f"unless given, the embedded {EMBEDDED}"
    )
    encode.set_defaults(run=_run, parser=encode)


def _run(options: argparse.Namespace) -> None:
    from spladerunner.bulk.job import encode
    from spladerunner.bulk.progress import shown
    from spladerunner.bulk.shard import Shard
    from spladerunner.expander import Expander
    from spladerunner.formats import FORMATS
    from spladerunner.readers.files import Input
    from spladerunner.readers.records import Fields

    if options.format not in FORMATS:
        options.parser.error(f"--format {options.format}: known are {', '.join(FORMATS)}")
    try:
        shard = Shard.parse(options.shard)
    except ValueError as error:
        options.parser.error(f"--shard: {error}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    with shown() as progress:
        done = encode(
            Expander(options.model),
            [Input(path, options.input_format) for path in options.inputs],
            options.output,
            role=options.role,
            format=options.format,
            fields=Fields(options.id_field, options.title_field, options.text_field),
            shard=shard,
            skip_bad=options.skip_bad,
            progress=progress,
        )
    bad = f", {done.bad:,} bad lines in {options.output}.bad.jsonl" if done.bad else ""
    sys.stderr.write(f"spladerunner: {options.output} is whole: {done.documents:,} documents{bad}\n")
