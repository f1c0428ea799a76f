"""Options of an export, from the command line's parser to the bundle's card."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import Literal

Target = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class ExportOptions:
    """Options of `spladerunner export`.

    doc, query: a folder, or REPOSITORY[@REVISION] on the Hub. Without query, the document model's files say what
        serves queries.
    onnx: doc and query are ONNX graphs with tokenizer.json, not checkpoints.
    output: the bundle's folder, which must not exist.
    target: "cpu" for int8 graphs, "cuda" for float16 graphs that return pooled weights.
    inference_free: gives each query token the weight 1, without a query model.
    lexical: the vectors of queries keep only the tokens of the query.
    pooling, activation: names as in a manifest, for checkpoints whose files do not state them.
    allow_pickle: accepts weights that are not safetensors.
    name, license: for manifest and card; by default the folder's name and the license on the checkpoint's own card.
    vocabulary: a JSON Lines file of vectors, as `spladerunner encode` writes it; the decoder keeps the vocabulary
        entries that are positive in one of them.
    accept_drift: keeps a bundle that falls short in verification, with the shortfalls in its manifest.

    Examples:
        >>> ExportOptions("naver/splade-v3-doc", "bundle", inference_free=True).command()
        'spladerunner export --doc naver/splade-v3-doc -o bundle --inference-free'
    """

    doc: str | os.PathLike[str]
    output: str | os.PathLike[str]
    query: str | os.PathLike[str] | None = None
    target: Target = "cpu"
    inference_free: bool = False
    lexical: bool = False
    pooling: str | None = None
    activation: str | None = None
    allow_pickle: bool = False
    name: str | None = None
    license: str | None = None
    accept_drift: bool = False
    onnx: bool = False
    vocabulary: str | os.PathLike[str] | None = None

    def command(self) -> str:
        """The command line with these options, quoted for a shell."""
        words = ["spladerunner", "export", "--onnx" if self.onnx else "--doc", os.fspath(self.doc)]
        if self.query is not None:
            words += ["--query", os.fspath(self.query)]
        words += ["-o", os.fspath(self.output)]
        options = {
            "--for": self.target if self.target != "cpu" else None,
            "--inference-free": self.inference_free,
            "--lexical": self.lexical,
            "--pooling": self.pooling,
            "--activation": self.activation,
            "--allow-pickle": self.allow_pickle,
            "--name": self.name,
            "--license": self.license,
            "--vocabulary": None if self.vocabulary is None else os.fspath(self.vocabulary),
            "--accept-drift": self.accept_drift,
        }
        for option, value in options.items():
            words += [option] if value is True else [option, value] if value else []
        return shlex.join(words)
