"""Memory of the host that a device reads and writes: reused from run to run, and page-locked for CUDA.

A card reads and writes page-locked memory by itself; other memory the driver copies piece by piece, while the card
waits. It comes from CUDA's own library, which onnxruntime has loaded: onnxruntime's Python has such memory only for the
providers in get_ep_devices(), and onnxruntime-gpu, up to 1.31 at least, lists none there.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from spladerunner.log import debug

if TYPE_CHECKING:  # numpy.typing is slow to import
    from numpy.typing import NDArray

    from spladerunner.inference.providers import Device

_PORTABLE = 1  # cudaHostAllocPortable: page-locked for every card


class HostMemory:
    """Lends arrays for the outputs of runs. There are as many as were lent at the same time. Threads may share it."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._free: list[NDArray[np.uint8]] = []

    @contextmanager
    def array(self, shape: tuple[int, ...], kind: np.dtype[Any]) -> Iterator[NDArray[Any]]:
        """An array of any contents, until the block ends."""
        size = prod(shape) * kind.itemsize
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(0, dtype=np.uint8)
        if memory.size < size:
            memory = allocate(1 << (size - 1).bit_length(), self._device)  # larger batches need not allocate again
        try:
            yield memory[:size].view(kind).reshape(shape)
        finally:
            self._free.append(memory)


def allocate(size: int, device: Device) -> NDArray[np.uint8]:
    """So many bytes of the host, page-locked if the device is one of CUDA's and CUDA gives such memory."""
    runtime = _cuda_runtime() if device.type == "cuda" else None
    memory = None if runtime is None else _page_locked(runtime, size, device.id)
    debug(__name__, "%d bytes of the host, %s", size, "not page-locked" if memory is None else "page-locked")
    return np.empty(size, dtype=np.uint8) if memory is None else memory


def _page_locked(runtime: ctypes.CDLL, size: int, card: int) -> NDArray[np.uint8] | None:
    """Memory that is freed with its last view; None if CUDA gives none."""
    address = ctypes.c_void_p()
    runtime.cudaSetDevice(card)  # or CUDA would take memory of the first card
    if runtime.cudaHostAlloc(ctypes.byref(address), ctypes.c_size_t(size), _PORTABLE) or not address.value:
        runtime.cudaGetLastError()  # forgets the error, or onnxruntime would find it
        return None
    memory: Any = (ctypes.c_ubyte * size).from_address(address.value)
    weakref.finalize(memory, runtime.cudaFreeHost, address)
    return np.frombuffer(memory, dtype=np.uint8)


@cache
def _cuda_runtime() -> ctypes.CDLL | None:
    """CUDA's library of the version of onnxruntime; None for builds for other cards."""
    major = str(getattr(onnxruntime, "cuda_version", "") or "").partition(".")[0]
    try:
        return ctypes.CDLL(f"libcudart.so.{major}" if os.name == "posix" else f"cudart64_{major}.dll")
    except OSError:
        return None
