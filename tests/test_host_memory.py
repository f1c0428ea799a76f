"""Memory of the host for the outputs of runs: lent, reused, and page-locked where CUDA gives it."""

from __future__ import annotations

import ctypes
import gc
import threading
from typing import Any

import numpy as np
import onnxruntime
import pytest

from spladerunner.inference import host_memory
from spladerunner.inference.host_memory import HostMemory
from spladerunner.inference.providers import Device

FLOAT16 = np.dtype(np.float16)


class StandInForCuda:
    """The functions of CUDA's library that are used; what was done is recorded."""

    def __init__(self, *, room: int = 1 << 20) -> None:
        self.room = room
        self.calls: list[str] = []
        self.allocated: dict[int, Any] = {}

    def cudaSetDevice(self, card: int) -> int:  # noqa: N802
        self.calls.append(f"card {card}")
        return 0

    def cudaHostAlloc(self, address: Any, size: ctypes.c_size_t, flags: int) -> int:  # noqa: N802
        assert flags == 1
        if size.value > self.room:
            return 2  # cudaErrorMemoryAllocation
        memory = (ctypes.c_ubyte * size.value)()
        address._obj.value = ctypes.addressof(memory)
        self.allocated[ctypes.addressof(memory)] = memory
        return 0

    def cudaFreeHost(self, address: ctypes.c_void_p) -> int:  # noqa: N802
        del self.allocated[address.value or 0]
        return 0

    def cudaGetLastError(self) -> int:  # noqa: N802
        self.calls.append("forgets the error")
        return 2


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> StandInForCuda:
    found = StandInForCuda()
    monkeypatch.setattr(host_memory, "_cuda_runtime", lambda: found)
    return found


def addresses(memory: HostMemory, *rows: int) -> list[int]:
    found = []
    for each in rows:
        with memory.array((each, 100), FLOAT16) as array:
            assert array.shape == (each, 100) and array.dtype == FLOAT16
            array[:] = each
            found.append(array.ctypes.data)
    return found


@pytest.mark.parametrize("device", [Device("cpu", 0), Device("cuda", 1)])
@pytest.mark.usefixtures("cuda")
def test_memory_is_lent_again_and_grows_by_powers_of_two(device: Device) -> None:
    memory = HostMemory(device)
    first, second, third = addresses(memory, 7, 10, 3)  # 1,400 and 2,000 bytes: both within 2,048
    assert first == second == third
    assert addresses(memory, 11) == addresses(memory, 1)


def test_arrays_lent_at_the_same_time_are_apart() -> None:
    memory, met = HostMemory(Device("cpu", 0)), threading.Barrier(3)
    right = []

    def borrow(number: int) -> None:
        with memory.array((5, 100), FLOAT16) as array:
            array[:] = number
            met.wait(10)
            right.append(bool((array == number).all()))

    threads = [threading.Thread(target=borrow, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 3 and len(memory._free) == 3


def test_memory_comes_back_after_an_error() -> None:
    memory = HostMemory(Device("cpu", 0))
    lent = memory.array((1, 100), FLOAT16)
    address = lent.__enter__().ctypes.data
    error = KeyError()
    assert not lent.__exit__(KeyError, error, None)
    assert addresses(memory, 1) == [address]


def test_memory_for_cuda_is_page_locked_and_freed_with_its_owner(cuda: StandInForCuda) -> None:
    memory = HostMemory(Device("cuda", 1))
    (address,) = addresses(memory, 7)
    assert list(cuda.allocated) == [address] and len(cuda.allocated[address]) == 2048
    assert cuda.calls == ["card 1"]
    addresses(memory, 20)
    assert len(cuda.allocated) == 1 and address not in cuda.allocated, "the smaller one is freed"
    del memory
    gc.collect()
    assert not cuda.allocated


def test_other_memory_serves_where_cuda_gives_none(cuda: StandInForCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda.room = 100
    addresses(HostMemory(Device("cuda", 0)), 7)
    assert cuda.calls == ["card 0", "forgets the error"]
    addresses(HostMemory(Device("dml", 0)), 7)
    monkeypatch.setattr(host_memory, "_cuda_runtime", lambda: None)
    addresses(HostMemory(Device("cuda", 0)), 7)
    assert len(cuda.calls) == 2 and not cuda.allocated


@pytest.mark.parametrize(("status", "address"), [(2, 1 << 20), (0, 0)])
def test_neither_an_error_with_an_address_nor_a_success_without_one_is_memory(
    cuda: StandInForCuda, monkeypatch: pytest.MonkeyPatch, status: int, address: int
) -> None:
    def allocate(found: Any, size: ctypes.c_size_t, flags: int) -> int:
        found._obj.value = address
        return status

    monkeypatch.setattr(cuda, "cudaHostAlloc", allocate)
    addresses(HostMemory(Device("cuda", 0)), 7)
    assert cuda.calls == ["card 0", "forgets the error"]


@pytest.mark.parametrize("version", ["", "99.1"])
def test_a_library_that_is_not_there_is_no_error(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(onnxruntime, "cuda_version", version)
    host_memory._cuda_runtime.cache_clear()
    assert host_memory._cuda_runtime() is None
    host_memory._cuda_runtime.cache_clear()
