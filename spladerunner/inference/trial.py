"""Runs the embedded pair once on each available provider, to see which of them work here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnxruntime

from spladerunner.errors import SpladeRunnerError
from spladerunner.inference.pooling import max_pool
from spladerunner.inference.providers import CPU
from spladerunner.inference.session import Session
from spladerunner.inference.tokenizer import Tokenizer
from spladerunner.models import embedded_folder

if TYPE_CHECKING:  # numpy.typing is slow to import
    from numpy.typing import NDArray

TEXT = "The Manhattan Project and its atomic bomb helped bring an end to World War II."


class Trial(NamedTuple):
    """provider: its name. result: "works" with the largest difference of a logit from the CPU's, or the error."""

    provider: str
    result: str


def try_providers() -> list[Trial]:
    """Runs a text with both models on each provider of this onnxruntime, the CPU first.

    >>> try_providers()[0]
    Trial(provider='CPUExecutionProvider', result='works')
    """
    expected = _largest_logits([CPU])
    trials = [Trial(CPU, "works")]
    for name in onnxruntime.get_available_providers():
        if name != CPU:
            try:
                found = _largest_logits([name, CPU])
            except SpladeRunnerError as error:
                trials.append(Trial(name, f"fails: {error}"))
            else:
                difference = float(np.abs(found - expected).max())
                trials.append(Trial(name, f"works, largest difference of a logit {difference:.2g}"))
    return trials


def _largest_logits(providers: Sequence[str]) -> NDArray[np.float32]:
    """Of the document model, then of the query model: (2, V)."""
    folder = embedded_folder()
    text = Tokenizer(folder / "tokenizer.json").encode(TEXT, 256)
    graphs = (folder / "doc.onnx", folder / "query.onnx")
    return np.concatenate([max_pool(Session(graph, providers).run(text), text.mask) for graph in graphs])
