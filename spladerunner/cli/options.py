"""Options that several commands share, and types of arguments."""

from __future__ import annotations

import argparse
import math
import sys

from spladerunner.expander import Expander
from spladerunner.inference.pooling import ACTIVATIONS, POOLINGS
from spladerunner.inference.providers import Provider
from spladerunner.model.hub import split_revision
from spladerunner.model.manifest import QUERIES
from spladerunner.models import EMBEDDED

MODEL = "NAME[@REVISION]|FOLDER"
"""The metavar of an argument that names a model."""


def add_model_options(parser: argparse.ArgumentParser, *, default_model: bool = True) -> None:
    """Adds the options of every command that runs a model; open_expander reads them.

    default_model: without --model, options.model is the embedded model's name; if False, it is None.
    """
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default=EMBEDDED if default_model else None,
        metavar=MODEL,
        help=f"a known model, a repository on the Hub, or a folder (default: the embedded {EMBEDDED})",
    )
    group.add_argument(
        "--threads", type=positive_count, metavar="N", help="texts that run at once (default: the available cores)"
    )
    group.add_argument(
        "--max-length",
        type=positive_count,
        metavar="N",
        help="tokens read from each text, special tokens included (default: the model's own)",
    )
    group.add_argument(
        "--provider",
        action="append",
        type=provider,
        metavar="NAME[:KEY=VALUE,...]",
        help="an execution provider of onnxruntime, with options such as CUDAExecutionProvider:device_id=1; repeat it, "
        "best first (default: CPUExecutionProvider)",
    )
    graph = parser.add_argument_group("a model without a bundle", "What the files beside its graph do not say:")
    graph.add_argument("--pooling", choices=POOLINGS, help="how the logits of a text's tokens become one")
    graph.add_argument("--activation", choices=[*ACTIVATIONS], help="how a logit becomes a weight")
    graph.add_argument(
        "--queries", choices=QUERIES, help="what serves queries: the model, idf.json, or weight 1 for each token"
    )
    parser.set_defaults(parser=parser)


def add_json_option(parser: argparse._ActionsContainer, help_text: str) -> None:
    """Adds --json; terminal.set_up_output reads it."""
    parser.add_argument("--json", action="store_true", help=help_text)


def open_expander(options: argparse.Namespace, model: str | None = None) -> Expander:
    """Opens the model that the options name, or another one with the same options.

    A number that the model does not allow, such as a --max-length above its positions, is a usage error: exit status 2.
    Raises what Expander raises otherwise.
    """
    parser: argparse.ArgumentParser = options.parser
    name, revision = split_revision(model or options.model or EMBEDDED)
    try:
        return Expander(
            name,
            options.max_length,
            threads=options.threads,
            providers=options.provider,
            revision=revision,
            pooling=options.pooling,
            activation=options.activation,
            query=options.queries,
        )
    except ValueError as error:
        parser.error(str(error))


def provider(text: str) -> Provider:
    """The name of an execution provider, with options if there are any."""
    name, colon, options = text.partition(":")
    if not colon:
        return name
    pairs = [pair.partition("=") for pair in options.split(",")]
    if not all(key and value for key, _, value in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME or NAME:KEY=VALUE,...")
    return name, {key: value for key, _, value in pairs}


def positive_count(text: str) -> int:
    """An integer of at least 1; larger ones than sys.maxsize become sys.maxsize."""
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 1")
    return min(count, sys.maxsize)


def share(text: str) -> float:
    """A number above 0 and at most 1."""
    number = positive_weight(text)
    if number > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is more than 1")
    return number


def positive_weight(text: str) -> float:
    """A finite number above 0."""
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return weight
