"""Process-wide settings of onnxruntime: telemetry, the memory arena, and the probe of int8 products.

A program that hosts spladerunner shares them:

| effect | when | how to opt out; if the program did it first |
|---|---|---|
| `ORT_DISABLE_TELEMETRY=1` in `os.environ` | `import spladerunner` | A value set before stays, `0` for telemetry. \
onnxruntime imported before has read the variable already. |
| One CPU arena registered with onnxruntime, which sessions with `session.use_env_allocators` share | first text \
| An allocator registered before is used instead, and never shrunk. |
| That arena shrunk, for all its sessions | after 256 runs that need less than half the peak | Register an allocator \
before. |
| A probe: one product of bytes in a session of its own, its result cached | first `Expander` | None; it changes \
nothing. |

From 1.29 on, onnxruntime's own builds report their use to their maker, and keep a database below the user's cache
(microsoft/onnxruntime#27379). A library that promises to use neither network nor disk has to turn that off.
"""

from __future__ import annotations

import os
from functools import cache

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime reads it once, at import

import onnxruntime

from spladerunner.inference.fork import native_lock
from spladerunner.log import debug

ONNXRUNTIME_VERSION: str = getattr(onnxruntime, "__version__", "")

PATIENCE = 256
"""Successive runs that need less than half the peak before memory is given back."""

# MatMulInteger of a: (1, 4) uint8 with four times 127, int8. As bytes, since the package that writes graphs is heavy.
_LARGEST_PRODUCT = (
    b'\x08\x05\x12\x00:Y\n\x18\n\x01a\n\x01b\x12\x01c"\rMatMulInteger\x12\x00*\x0f\x08\x04\x08\x01\x10\x03B\x01bJ\x04\x7f\x7f\x7f\x7f'
    b"Z\x14\n\x01a\x12\x0f\n\r\x08\x02\x12\t\n\x03\x12\x01m\n\x02\x08\x04b\x14\n\x01c\x12\x0f\n\r\x08\x06\x12\t\n\x03\x12\x01m\n\x02\x08\x01B\x04\n\x00\x10\n"
)


@cache
def products_saturate() -> bool:
    """Probes whether this processor's fastest products of unsigned and signed bytes overflow, as on x86 without VNNI.

    There onnxruntime must be told to compute exactly. It follows that option on every x86 processor, and exact products
    take twice as long as VNNI's, so it is told so only if a product that must saturate does.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with native_lock():
        session = onnxruntime.InferenceSession(_LARGEST_PRODUCT, options, providers=["CPUExecutionProvider"])
        (product,) = session.run(None, {"a": np.full((1, 4), 255, dtype=np.uint8)})
        del session
    saturates = bool(product.item() != 4 * 255 * 127)
    debug(__name__, "int8 products %s on this processor", "saturate" if saturates else "are exact")
    return saturates


@cache
def register_arena() -> bool:
    """Registers one CPU arena for all sessions. Later calls do nothing.

    It grows by powers of two: if it grew by what a run requests, texts of ascending length would each leave a region
    behind that the next does not fit into. False if the program has registered an allocator before.
    """
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    by_powers_of_two = onnxruntime.OrtArenaCfg({"arena_extend_strategy": 0})
    try:
        with native_lock():
            onnxruntime.create_and_register_allocator(memory, by_powers_of_two)
    except Exception as error:  # onnxruntime's errors share no narrower type
        if "already" not in str(error):
            raise
        debug(__name__, "sessions use the CPU allocator that this program registered before")
        return False
    debug(__name__, "registered a CPU arena for all sessions")
    return True


class PeakMemory:
    """Tracks the peak memory that runs need, in any one unit.

    Threads may share it: an update that is lost shifts the moment at which memory is given back.
    """

    def __init__(self) -> None:
        self._peak = 0
        self._smaller_runs = 0

    def has_fallen(self, size: int) -> bool:
        """Records a run. True after PATIENCE successive runs of less than half the peak; the last is the new peak.

        >>> memory = PeakMemory()
        >>> memory.has_fallen(100)
        False
        >>> [memory.has_fallen(10) for _ in range(PATIENCE)].count(True)
        1
        """
        if 2 * size >= self._peak:
            self._peak = max(self._peak, size)
            self._smaller_runs = 0
            return False
        self._smaller_runs += 1
        if self._smaller_runs < PATIENCE:
            return False
        self._peak, self._smaller_runs = size, 0
        return True


_peak_memory = PeakMemory()
"""Of all sessions, as they share the arena; in numbers of output."""


def run_options(size: int) -> onnxruntime.RunOptions | None:
    """Run options for an output of `size` numbers: they shrink the arena if its peak is long past; usually None.

    By default the arena keeps forever what the longest text needed. An allocator of the host program is left alone, as
    it may be unable to shrink.
    """
    if not (_peak_memory.has_fallen(size) and register_arena()):
        return None
    debug(__name__, "shrinking the CPU arena after %d runs below half of its peak", PATIENCE)
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options
