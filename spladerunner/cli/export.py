"""The command `spladerunner export`."""

from __future__ import annotations

import argparse
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING

from spladerunner.cli.exit_status import exit_on_signals
from spladerunner.cli.terminal import say
from spladerunner.inference.pooling import ACTIVATIONS, POOLINGS

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_parser(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "export",
        help="export a checkpoint or an ONNX graph to a bundle",
        description="Exports a checkpoint or an ONNX graph, or a pair of them, to a bundle, and compares its "
        "vectors with the original's.",
    )
    source = "FOLDER|REPOSITORY[@REVISION]"
    document = parser.add_mutually_exclusive_group(required=True)
    document.add_argument("--doc", metavar=source, help="the checkpoint of the document model, a folder or on the Hub")
    document.add_argument("--onnx", metavar=source, help="its ONNX graph instead, which needs no torch")
    parser.add_argument("--query", metavar=source, help="the query model (default: by the document model's files)")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="the bundle; must not exist")
    parser.add_argument(
        "--for",
        dest="target",
        choices=("cpu", "cuda"),
        default="cpu",
        help="int8 graphs for CPUs, or float16 graphs for CUDA (default: cpu)",
    )
    parser.add_argument(
        "--inference-free", action="store_true", help="queries need no model: each of their tokens weighs 1"
    )
    parser.add_argument(
        "--lexical", action="store_true", help="queries keep only their own tokens, as those of naver/splade-v3-lexical"
    )
    parser.add_argument("--pooling", choices=POOLINGS, help="the pooling (default: by the checkpoint's files)")
    parser.add_argument(
        "--activation", choices=tuple(ACTIVATIONS), help="the activation (default: by the checkpoint's files)"
    )
    parser.add_argument("--allow-pickle", action="store_true", help="accept weights that are not safetensors")
    parser.add_argument("--name", help="the model's name (default: the name of the bundle's folder)")
    parser.add_argument(
        "--license", help="the license of the weights, an SPDX identifier (default: by the checkpoint's card)"
    )
    parser.add_argument(
        "--vocabulary",
        metavar="FILE",
        help="keep only the vocabulary entries that are positive in these vectors, JSON Lines as encode writes them; "
        "the decoder is smaller, and other tokens get no weight any more",
    )
    parser.add_argument("--accept-drift", action="store_true", help="keep a bundle that fails verification")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from spladerunner.export import ExportOptions, export_bundle

    exit_on_signals()
    given = {field.name: getattr(options, field.name) for field in fields(ExportOptions)}
    given |= {"doc": options.onnx or options.doc, "onnx": options.onnx is not None}
    export_bundle(ExportOptions(**given), progress=partial(say, prefix=""))
