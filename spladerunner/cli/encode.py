"""The command `spladerunner encode`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from spladerunner.cli.exit_status import exit_on_signals
from spladerunner.cli.options import add_model_options, open_expander, positive_count
from spladerunner.cli.terminal import say
from spladerunner.model.manifest import ROLES

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from spladerunner.bulk.job import Progress
    from spladerunner.expander import Expander
    from spladerunner.readers import Fields, Input


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "encode",
        help="encode files of texts to a file of vectors",
        description="Encodes each text of the inputs and writes its vector as a line of OUT. After an interruption, "
        "the same command resumes; standard input must then give the same lines again.",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help=".jsonl, .tsv (id TAB text), .txt or .parquet; all but .parquet also compressed, as .gz or .zst; "
        "- is standard input",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="the file of vectors, which must not exist: lines, or Parquet if it ends in .parquet; or a folder of "
        "Parquet parts, if it ends in /",
    )
    parser.add_argument(
        "--role", choices=ROLES, default="doc", help="encode the texts as documents or queries (default: doc)"
    )
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        help="the format of a vector (default: json; in Parquet indices, or json for maps)",
    )
    parser.add_argument(
        "--part-lines",
        type=positive_count,
        default=10_000,
        metavar="N",
        help="lines of the input in a Parquet part, or a row group of a Parquet file (default: 10000)",
    )
    parser.add_argument(
        "--input-format",
        default="",
        choices=("jsonl", "tsv", "text", "parquet"),
        help="the format of the inputs (default: by suffix)",
    )
    for field, name in (("id", "_id"), ("title", "title"), ("text", "text")):
        parser.add_argument(
            f"--{field}-field",
            default=name,
            metavar="NAME",
            help=f"the name of the {field} in JSON Lines and Parquet (default: {name})",
        )
    parser.add_argument(
        "--shard",
        default="1/1",
        metavar="N/OF",
        help="encode one of several equal parts, such as 3/16; the outputs concatenate to that of all the inputs",
    )
    parser.add_argument(
        "--engine",
        choices=("ray", "spark"),
        help="encode on the cluster that RAY_ADDRESS, or Spark's configuration, names; OUT is a folder of parts",
    )
    parser.add_argument("--skip-bad", action="store_true", help="write bad lines to OUT.bad.jsonl instead of stopping")
    add_model_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from spladerunner.bulk.job import encode, is_parquet
    from spladerunner.bulk.progress import show_progress
    from spladerunner.bulk.shard import Shard
    from spladerunner.formats import FORMATS
    from spladerunner.parquet.table import FORMATS as PARQUET_FORMATS
    from spladerunner.readers import Fields, Input

    parser: argparse.ArgumentParser = options.parser
    if options.engine and not _is_folder(options.output):
        parser.error(f"argument --engine: {options.output} is not a folder of parts; end it in /")
    if options.engine and options.shard != "1/1":
        parser.error("argument --engine: not allowed with argument --shard")
    formats = PARQUET_FORMATS if is_parquet(options.output) else FORMATS
    if options.format is not None and options.format not in formats:
        parser.error(f"--format {options.format} is not one of: {', '.join(formats)}")
    try:
        shard = Shard.parse(options.shard)
    except ValueError as error:
        parser.error(f"--shard: {error}")
    expander = open_expander(options)
    inputs = [Input(path, options.input_format) for path in options.inputs]
    fields = Fields(options.id_field, options.title_field, options.text_field)
    exit_on_signals()
    try:
        if options.engine:
            done = _encode_on_engine(options, expander, inputs, fields)
        else:
            with show_progress() as progress:
                done = encode(
                    expander,
                    inputs,
                    options.output,
                    role=options.role,
                    format=options.format,
                    fields=fields,
                    shard=shard,
                    part_lines=options.part_lines,
                    skip_bad=options.skip_bad,
                    progress=progress,
                )
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from the last save")
        raise
    said = "had already encoded" if done.repeated else "encoded"
    files = (
        f"{options.output.rstrip('/')}/_bad-*.jsonl" if _is_folder(options.output) else f"{options.output}.bad.jsonl"
    )
    bad = f"; {done.bad:,} bad lines are in {files}" if done.bad else ""
    say(f"{said} {done.documents:,} texts to {options.output}{bad}")


def _is_folder(output: str) -> bool:
    from spladerunner.bulk.job import is_parquet

    return is_parquet(output) and not output.endswith(".parquet")


def _encode_on_engine(options: argparse.Namespace, expander: Expander, inputs: list[Input], fields: Fields) -> Progress:
    from spladerunner.distributed.files import encode_files

    parser: argparse.ArgumentParser = options.parser
    if options.engine == "ray":
        from spladerunner.distributed.ray import encode_parts

        threads = options.threads or 1
    else:
        from spladerunner.distributed.spark import encode_parts, spark_session, task_cpus

        if options.threads:
            parser.error("argument --threads: a worker of Spark has spark.task.cpus threads")
        threads = task_cpus(spark_session())
    return encode_files(
        expander,
        threads,
        inputs,
        options.output,
        encode_parts,
        role=options.role,
        format=options.format or "indices",
        fields=fields,
        part_lines=options.part_lines,
        skip_bad=options.skip_bad,
    )
