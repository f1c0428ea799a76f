"""The only import of onnxruntime: a graph, opened with the providers and the threads that were asked for.

From 1.29 on, onnxruntime's own builds report their use to their maker and keep a database below the user's cache.
A library that promises to touch neither network nor disk turns that off, before onnxruntime starts; who wants it on
sets ORT_DISABLE_TELEMETRY=0 (microsoft/onnxruntime#27379).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from os import PathLike

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

from spladerunner.errors import ModelFilesError, ProviderError
from spladerunner.inference.arena import Demand
from spladerunner.inference.tokenizer import TokenizedText

CPU = "CPUExecutionProvider"
ONNXRUNTIME_VERSION: str = onnxruntime.__version__

SLOWER_FUSIONS = ("SkipLayerNormFusion",)
"""What onnxruntime would fuse to its disadvantage: on CPUs, its operator for a sum and its layer normalization takes
several times as long as its operators for the two (benchmarks/README.md)."""

_INPUTS = {
    "input_ids": "ids",
    "attention_mask": "mask",
    "token_type_ids": "type_ids",
    # as graphs name them that were converted by other tools than optimum
    "input_mask": "mask",
    "segment_ids": "type_ids",
}


# MatMulInteger of a: (m, 4) uint8 with four times 127, int8. Spelt out, as the package that writes graphs is heavy.
_LARGEST_PRODUCT = (
    b'\x08\x05\x12\x00:Y\n\x18\n\x01a\n\x01b\x12\x01c"\rMatMulInteger\x12\x00*\x0f\x08\x04\x08\x01\x10\x03B\x01bJ\x04\x7f\x7f\x7f\x7f'
    b"Z\x14\n\x01a\x12\x0f\n\r\x08\x02\x12\t\n\x03\x12\x01m\n\x02\x08\x04b\x14\n\x01c\x12\x0f\n\r\x08\x06\x12\t\n\x03\x12\x01m\n\x02\x08\x01B\x04\n\x00\x10\n"
)


@cache
def products_saturate() -> bool:
    """Whether this processor's fastest products of unsigned and signed bytes are wrong: those of x86 without VNNI.

    There onnxruntime has to be told to be exact. It takes that for every x86 processor, though, and the exact products
    take twice as long as VNNI's, so it is told only where a product that must saturate does.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(_LARGEST_PRODUCT, options, providers=[CPU])
    (product,) = session.run(None, {"a": np.full((1, 4), 255, dtype=np.uint8)})
    return bool(product.item() != 4 * 255 * 127)


@cache
def _make_arena() -> bool:
    """One arena for all sessions, which grows by what a run asks for; each session's own would grow by doubling.

    False where the program that this is part of has made an allocator before, which then serves here too.
    """
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    as_requested = onnxruntime.OrtArenaCfg({"arena_extend_strategy": 1})
    try:
        onnxruntime.create_and_register_allocator(memory, as_requested)
    except Exception as error:  # onnxruntime's errors share no narrower type
        if "already" not in str(error):
            raise
        return False
    return True


_demand = Demand()
"""That of all sessions, as they share the arena; in numbers of what they give."""


def _run_options(needed: int) -> onnxruntime.RunOptions | None:
    """For a run that gives so many numbers.

    Left to itself, the arena would keep for good what the longest text has needed. The allocator of another program
    may not be able to give it back.
    """
    if not (_demand.has_fallen(needed) and _make_arena()):
        return None
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def check_providers(providers: Sequence[str]) -> None:
    """Raises ProviderError where onnxruntime, as installed here, lacks one of them or none is named."""
    available = onnxruntime.get_available_providers()
    missing = [name for name in providers if name not in available]
    if missing or not providers:
        raise ProviderError(
            f"providers={list(providers)!r} cannot be had: this onnxruntime has {available}. "
            "For CUDA, install onnxruntime-gpu in place of onnxruntime."
        )


class Session:
    """A graph that turns a TokenizedText into logits (B, L, V), or into weights (B, V) where it pools inside.

    Each run uses one thread of its own. The same input gives the same output, bit for bit, from any thread.
    Raises ModelFilesError where the graph cannot be read or is not a masked language model, ProviderError where a
    provider that was asked for did not start.
    """

    def __init__(self, path: str | PathLike[str], providers: Sequence[str] = (CPU,)) -> None:
        check_providers(providers)
        self.path = path
        self._on_cpu = list(providers) == [CPU]
        options = onnxruntime.SessionOptions()
        # Texts run side by side, one thread each: that fills the cores better than many threads on one text.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what matters is raised
        # Patterns are kept for every length seen, and each length has one of its own.
        options.enable_mem_pattern = False
        _make_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
        if products_saturate():
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=list(providers), disabled_optimizers=list(SLOWER_FUSIONS)
            )
        except Exception as error:  # onnxruntime's errors share no narrower type
            raise ModelFilesError(
                f"{path} cannot be opened by onnxruntime {onnxruntime.__version__}: {error}. "
                "Fetch or export the model again."
            ) from error
        started = self._session.get_providers()
        if absent := [name for name in providers if name not in started]:
            raise ProviderError(f"{absent} did not start; onnxruntime opened {path} with {started} alone.")
        self._inputs = [node.name for node in self._session.get_inputs()]
        if "input_ids" not in self._inputs or not set(self._inputs) <= set(_INPUTS):
            raise ModelFilesError(
                f"{path} takes the inputs {self._inputs}; a masked language model takes input_ids and of "
                f"{sorted(_INPUTS)} what it needs."
            )
        output = self._session.get_outputs()[0]
        self._output = output.name
        if len(output.shape) not in (2, 3):
            raise ModelFilesError(
                f"{path} gives {output.name} of shape {output.shape}, not logits (B, L, V) or (B, V)."
            )
        self.pools_inside: bool = len(output.shape) == 2
        self.vocabulary_size: int | None = output.shape[-1] if isinstance(output.shape[-1], int) else None

    def run(self, batch: TokenizedText) -> NDArray[np.floating]:
        """Logits (B, L, V), or (B, V) where pools_inside. ModelFilesError where the graph fails on the batch."""
        feeds = {name: getattr(batch, _INPUTS[name]) for name in self._inputs}
        run_options = _run_options(batch.ids.size * (self.vocabulary_size or 1)) if self._on_cpu else None
        try:
            output: NDArray[np.floating] = self._session.run([self._output], feeds, run_options)[0]
        except Exception as error:  # onnxruntime's errors share no narrower type
            raise ModelFilesError(
                f"{self.path} failed on {batch.ids.shape[1]} tokens; where the model has room for fewer, give a "
                f"smaller max_length. onnxruntime says: {error}"
            ) from error
        return output
