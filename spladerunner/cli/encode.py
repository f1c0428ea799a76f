"""The command `spladerunner encode`."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

from spladerunner.cli.exit_status import exit_on_signals
from spladerunner.cli.options import add_model_options, open_expander, positive_count, positive_weight, share
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
        help="the file of vectors, which must not exist: lines, compressed if it ends in .gz or .zst, or Parquet if it "
        "ends in .parquet; or a folder of Parquet parts, if it ends in /; - is standard output",
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
        "--keep",
        type=_names,
        default=(),
        metavar="NAME,...",
        help="fields of JSON Lines and Parquet that travel along, in a format that has a place for them",
    )
    parser.add_argument(
        "--windows",
        choices=("max", "passages"),
        help="read long texts whole, in windows of the model's length: joined by the largest weight of each token, or "
        "kept apart as passages with ids such as doc#0 (default: read the beginning)",
    )
    parser.add_argument(
        "--overlap",
        type=_count,
        metavar="N",
        help="tokens that neighboring windows share (default: a quarter of the length)",
    )
    parser.add_argument("--top", type=positive_count, metavar="N", help="keep each vector's N largest weights")
    parser.add_argument("--min-weight", type=positive_weight, metavar="W", help="keep weights of at least W")
    parser.add_argument(
        "--max-ratio", type=share, metavar="R", help="keep weights of at least R times the vector's largest"
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
    from spladerunner.bulk.stream import is_stream
    from spladerunner.formats import DEFAULT, FORMATS, WITH_PAYLOAD
    from spladerunner.parquet.table import FORMATS as PARQUET_FORMATS
    from spladerunner.readers import Fields, Input

    parser: argparse.ArgumentParser = options.parser
    if options.engine and not _is_folder(options.output):
        parser.error(f"argument --engine: {options.output} is not a folder of parts; end it in /")
    if options.engine and options.shard != "1/1":
        parser.error("argument --engine: not allowed with argument --shard")
    if options.overlap is not None and not options.windows:
        parser.error("argument --overlap: has no effect without argument --windows")
    in_parquet = is_parquet(options.output)
    if options.keep and (in_parquet or (options.format or DEFAULT) not in WITH_PAYLOAD):
        parser.error(f"argument --keep: only lines of these formats keep fields: {', '.join(WITH_PAYLOAD)}")
    formats = PARQUET_FORMATS if in_parquet else FORMATS
    if options.format is not None and options.format not in formats:
        parser.error(f"--format {options.format} is not one of: {', '.join(formats)}")
    try:
        shard = Shard.parse(options.shard)
    except ValueError as error:
        parser.error(f"--shard: {error}")
    expander = open_expander(options)
    try:
        expander.passages([], role=options.role, overlap=options.overlap)
    except ValueError as error:
        parser.error(f"argument --overlap: {error}")
    inputs = [Input(path, options.input_format) for path in options.inputs]
    fields = Fields(options.id_field, options.title_field, options.text_field, options.keep)
    exit_on_signals()
    try:
        if options.engine:
            done = _encode_on_engine(options, expander, inputs, fields)
        else:
            drawn_over = is_stream(options.output) and sys.stdout.isatty()
            with nullcontext() if drawn_over else show_progress() as progress:
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
                    windows=options.windows,
                    overlap=options.overlap,
                    min_weight=options.min_weight,
                    max_ratio=options.max_ratio,
                    top=options.top,
                    progress=progress or (lambda _: None),
                )
    except KeyboardInterrupt:
        if not is_stream(options.output):
            say("interrupted; the same command goes on from the last save")
        raise
    say(_report(options, done, expander.max_length[options.role]))


def _report(options: argparse.Namespace, done: Progress, max_length: int) -> str:
    """The last line: what was written, the bad lines, and the texts that were cut."""
    from spladerunner.bulk.stream import STDOUT, is_stream

    output: str = options.output
    said = "had already encoded" if done.repeated else "encoded"
    unit = "passages" if options.windows == "passages" else "texts"
    parts = [f"{said} {done.documents:,} {unit} to {'standard output' if output in STDOUT else output}"]
    if done.bad:
        files = f"{output.rstrip('/')}/_bad-*.jsonl" if _is_folder(output) else f"{output}.bad.jsonl"
        where = "were printed on standard error" if is_stream(output) else f"are in {files}"
        parts.append(f"{done.bad:,} bad lines {where}")
    if done.cut:
        parts.append(
            f"cut at {max_length} tokens: {done.cut:,} of {done.documents:,} texts ({done.cut / done.documents:.0%}), "
            f"{done.lost / done.tokens:.1%} of all tokens; --windows reads them whole"
        )
    return "; ".join(parts)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _count(text: str) -> int:
    return 0 if text == "0" else positive_count(text)


def _is_folder(output: str) -> bool:
    from spladerunner.bulk.job import is_parquet

    return is_parquet(output) and not output.endswith(".parquet")


def _encode_on_engine(options: argparse.Namespace, expander: Expander, inputs: list[Input], fields: Fields) -> Progress:
    from spladerunner.bulk.vectors import Vectors
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
        vectors=Vectors(
            options.role, options.windows, options.overlap, options.min_weight, options.max_ratio, options.top
        ),
        format=options.format or "indices",
        fields=fields,
        part_lines=options.part_lines,
        skip_bad=options.skip_bad,
    )
