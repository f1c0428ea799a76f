"""Runs the embedded document model once on each available provider, to see which of them work here."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnxruntime

from spladerunner.errors import SpladeRunnerError
from spladerunner.inference.pooling import max_pool
from spladerunner.inference.providers import CPU
from spladerunner.inference.session import Session
from spladerunner.inference.tokenizer import Tokenizer
from spladerunner.models import embedded_folder

TEXT = "The Manhattan Project and its atomic bomb helped bring an end to World War II."


class Trial(NamedTuple):
    """provider: its name. result: "works" with the largest difference of a logit from the CPU's, or the error."""

    provider: str
    result: str


def try_providers() -> list[Trial]:
    """Runs one text on each provider of this onnxruntime, the CPU first.

    >>> try_providers()[0]
    Trial(provider='CPUExecutionProvider', result='works')
    """
    folder = embedded_folder()
    text = Tokenizer(folder / "tokenizer.json").encode(TEXT, 256)
    expected = max_pool(Session(folder / "doc.onnx").run(text), text.mask)
    trials = [Trial(CPU, "works")]
    for name in onnxruntime.get_available_providers():
        if name != CPU:
            try:
                found = max_pool(Session(folder / "doc.onnx", [name, CPU]).run(text), text.mask)
            except SpladeRunnerError as error:
                trials.append(Trial(name, f"fails: {error}"))
            else:
                difference = float(np.abs(found - expected).max())
                trials.append(Trial(name, f"works, largest difference of a logit {difference:.2g}"))
    return trials
