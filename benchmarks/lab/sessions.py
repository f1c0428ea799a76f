"""Sessions of onnxruntime, opened as spladerunner opens them except for what an experiment varies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from spladerunner.inference.arena import products_saturate
from spladerunner.inference.session import SLOWER_FUSIONS
from spladerunner.inference.tokenizer import TokenizedText


def open_session(
    graph: Path | bytes, threads: int = 1, *, exact: bool = False, disabled: tuple[str, ...] = SLOWER_FUSIONS
) -> onnxruntime.InferenceSession:
    """Opens a graph. exact: exact int8 products on every x86 processor, not only where fast ones saturate.

    disabled: optimizers of onnxruntime.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_mem_pattern = False
    options.log_severity_level = 4
    if exact or products_saturate():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(
        graph if isinstance(graph, bytes) else str(graph),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=list(disabled),
    )


def run(session: onnxruntime.InferenceSession, text: TokenizedText) -> NDArray[np.float32]:
    """First output of the graph."""
    values = {"input_ids": text.ids, "attention_mask": text.mask, "token_type_ids": text.type_ids}
    output: NDArray[np.float32]
    (output,) = session.run(None, {given.name: values[given.name] for given in session.get_inputs()})
    return output
