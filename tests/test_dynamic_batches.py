"""Dynamic batching: concurrent calls share runs, and each gets its own vectors or its own error."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spladerunner import Expander, ModelFilesError
from spladerunner.inference import dynamic_batches, providers
from spladerunner.inference.admission import Admission
from spladerunner.inference.batches import Batch, TokenBudget
from spladerunner.inference.dynamic_batches import DynamicBatches
from spladerunner.inference.providers import CPU
from spladerunner.inference.tokenizer import TokenizedText
from spladerunner.inference.worker_threads import Pool, WorkerThreads
from spladerunner.vector import SparseVector
from tests.test_batch_encoder import write_pooled_bundle
from tests.test_worker_threads import all_end

PATIENCE = 60
BROKEN = 99


def text_of(token: int, size: int = 5) -> TokenizedText:
    ids = np.full((1, size), token, dtype=np.int64)
    return TokenizedText(ids, np.ones_like(ids), np.zeros_like(ids), content_tokens=size)


class Device:
    """A device whose runs end when they are told to. The index of a vector is the text's token; BROKEN fails."""

    def __init__(self, *, tokens: int = 1024) -> None:
        self.budget = TokenBudget(tokens)
        self.ran: list[list[int]] = []
        self.started = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    def encode(self, batch: Batch) -> list[SparseVector]:
        tokens = batch.ids[:, 0].tolist()
        self.ran.append(tokens)
        self.started.release()
        assert self.may_end.acquire(timeout=PATIENCE)
        if BROKEN in tokens:
            raise ModelFilesError("its weights are not finite")
        return [SparseVector([token], [1.0]) for token in tokens]

    def __call__(self, text: TokenizedText) -> SparseVector:
        return self.encode(Batch.of([(0, text)], text.tokens))[0]

    def end(self, runs: int = 1000) -> None:
        self.may_end.release(runs)

    def run_begins(self) -> None:
        assert self.started.acquire(timeout=PATIENCE)


def batches_on(device: Device, *, tokens_in_flight: int = 10**6, threads: int = 1) -> DynamicBatches:
    admission = Admission(threads, tokens_in_flight, WorkerThreads(threads))
    return DynamicBatches(device, admission, threads, tokens_in_flight)  # type: ignore[arg-type]


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(20) as executor:
        yield executor


def submit(
    callers: ThreadPoolExecutor, shared: DynamicBatches, *texts: TokenizedText, waiting: int | None = None
) -> Future[list[int]]:
    """Encodes texts in another thread, and returns when so many batches wait."""
    call = callers.submit(lambda: [int(vector.indices[0]) for vector in shared.stream(iter(texts), 512)])
    deadline = time.monotonic() + PATIENCE
    while waiting is not None and len(shared._waiting) < waiting:
        assert time.monotonic() < deadline and not call.done()
        time.sleep(0.001)
    return call


def test_texts_that_wait_run_together_the_oldest_first(callers: ThreadPoolExecutor) -> None:
    device = Device()
    shared = batches_on(device)
    calls = [submit(callers, shared, text_of(1))]
    device.run_begins()
    for number, size in enumerate((20, 5, 20, 5, 5, 40), start=2):
        calls.append(submit(callers, shared, text_of(number, size), waiting=number - 1))
    device.end()
    assert [call.result(PATIENCE) for call in calls] == [[number] for number in range(1, 8)]
    assert device.ran == [[1], [2, 4], [3, 5, 6], [7]]
    assert not shared._waiting


def test_batches_of_one_call_stay_as_they_are(callers: ThreadPoolExecutor) -> None:
    device = Device(tokens=32)
    shared = batches_on(device, threads=3)
    call = submit(callers, shared, *map(text_of, range(1, 8)))
    for _ in range(3):
        device.run_begins()
    device.end()
    assert call.result(PATIENCE) == [*range(1, 8)]
    assert sorted(device.ran) == [[1, 2], [3, 4], [5, 6], [7]]


@pytest.mark.parametrize(("tokens", "in_flight", "most"), [(48, 10**6, 3), (1024, 32, 2), (10**6, 10**6, 4)])
def test_a_run_keeps_to_every_bound(
    callers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, tokens: int, in_flight: int, most: int
) -> None:
    monkeypatch.setattr(dynamic_batches, "MOST_TEXTS", 4)
    device = Device(tokens=tokens)
    shared = batches_on(device, tokens_in_flight=in_flight)
    calls = [submit(callers, shared, text_of(1))]
    device.run_begins()
    calls += [submit(callers, shared, text_of(number), waiting=number - 1) for number in range(2, 11)]
    device.end()
    assert [call.result(PATIENCE) for call in calls] == [[number] for number in range(1, 11)]
    assert [len(ran) for ran in device.ran] == [1, *[most] * (9 // most), *([9 % most] if 9 % most else [])]


def test_a_text_that_fails_fails_its_own_call_only(callers: ThreadPoolExecutor) -> None:
    device = Device()
    shared = batches_on(device)
    first = submit(callers, shared, text_of(1))
    device.run_begins()
    calls = [
        submit(callers, shared, text_of(token), waiting=number) for number, token in enumerate((2, BROKEN, 3), start=1)
    ]
    device.end()
    assert first.result(PATIENCE) == [1]
    assert calls[0].result(PATIENCE) == [2] and calls[2].result(PATIENCE) == [3]
    with pytest.raises(ModelFilesError, match="not finite"):
        calls[1].result(PATIENCE)
    assert device.ran == [[1], [2, BROKEN, 3], [2], [BROKEN], [3]]


def test_an_error_that_is_kept_keeps_no_thread() -> None:
    device = Device()
    device.end()
    shared = batches_on(device, threads=2)
    with pytest.raises(ModelFilesError) as kept:
        list(shared.stream(iter([text_of(BROKEN)]), 512))
    assert all_end() and kept.tb


def test_a_batch_whose_call_was_interrupted_does_not_take_the_place_of_another(
    callers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device()
    device.end()
    shared = batches_on(device)

    def interrupt(self: Pool, work: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Pool, "submit", interrupt)
        with pytest.raises(KeyboardInterrupt):
            shared._submit(Batch.of([(0, text_of(1))], 16), None)
    assert submit(callers, shared, text_of(2, 40)).result(PATIENCE) == [2]
    assert device.ran == [[2]] and not shared._waiting


def test_a_text_that_is_cancelled_while_it_waits_does_not_run() -> None:
    device = Device()
    shared = batches_on(device)

    async def main() -> None:
        runs = asyncio.create_task(shared.encode(text_of(1), 512))
        while not device.ran:
            await asyncio.sleep(0.001)
        wait = [asyncio.create_task(shared.encode(text_of(number), 512)) for number in (2, 3, 4)]
        while len(shared._waiting) < 3:
            await asyncio.sleep(0.001)
        wait[1].cancel()
        await asyncio.sleep(0)
        device.end()
        found = await asyncio.gather(runs, *wait, return_exceptions=True)
        assert isinstance(found.pop(2), asyncio.CancelledError)
        assert [int(vector.indices[0]) for vector in found if isinstance(vector, SparseVector)] == [1, 2, 4]

    asyncio.run(main())
    assert device.ran == [[1], [2, 4]]


def test_a_cancelled_call_lets_its_run_end() -> None:
    device = Device()
    shared = batches_on(device)

    async def main() -> None:
        call = asyncio.create_task(shared.encode(text_of(1), 512))
        while not device.ran:
            await asyncio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        device.end()
        assert (await shared.encode(text_of(2), 512)).indices.tolist() == [2]

    asyncio.run(main())


def test_a_loop_that_closes_leaves_nothing_behind(callers: ThreadPoolExecutor) -> None:
    device = Device()
    shared = batches_on(device)
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(shared.encode(text_of(1), 512))]
    while not device.ran:
        loop.run_until_complete(asyncio.sleep(0.001))
    tasks.append(loop.create_task(shared.encode(text_of(2), 512)))
    loop.run_until_complete(asyncio.sleep(0.001))
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()
    device.end()
    assert submit(callers, shared, text_of(3)).result(PATIENCE) == [3]
    assert device.ran == [[1], [3]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_of_fork_begins_with_nothing_waiting(callers: ThreadPoolExecutor) -> None:
    device = Device()
    shared = batches_on(device)
    calls = [submit(callers, shared, text_of(1))]
    device.run_begins()
    calls.append(submit(callers, shared, text_of(2), waiting=1))
    child = os.fork()
    if not child:
        status = 1
        try:
            device.ran, device.may_end = [], threading.Semaphore(1000)
            vectors = [*shared.stream(iter([text_of(3)]), 512)]
            status = 0 if vectors[0].indices.tolist() == [3] and device.ran == [[3]] else 2
        finally:
            os._exit(status)
    device.end()
    assert [call.result(PATIENCE) for call in calls] == [[1], [2]]
    assert os.waitpid(child, 0)[1] == 0


@pytest.fixture
def expander(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Expander:
    """One whose batches run on the CPU provider."""
    monkeypatch.setattr(providers, "_GPU_DEVICES", {CPU: "cpu"})
    return Expander(write_pooled_bundle(tmp_path / "pooled"))


TEXTS = ["the cat sat on the mat", "", "dog", "river bank money run", "a!", "the the the the the the the", " \n"] * 20


def observed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Records the number of texts of every run."""
    ran: list[int] = []
    run: Callable[..., Any] = DynamicBatches._run

    def observe(shared: DynamicBatches, together: Any) -> None:
        ran.append(sum(len(each.batch.places) for each in together))
        run(shared, together)

    monkeypatch.setattr(DynamicBatches, "_run", observe)
    return ran


def agree(found: list[SparseVector], expected: list[SparseVector]) -> bool:
    return all(
        np.array_equal(mine.indices, other.indices) and np.allclose(mine.values, other.values, rtol=0, atol=1e-5)
        for mine, other in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("role", ["doc", "query"])
def test_an_awaited_call_runs_in_batches(expander: Expander, monkeypatch: pytest.MonkeyPatch, role: Any) -> None:
    expected = expander.encode(TEXTS, role=role)
    ran = observed(monkeypatch)
    assert agree(asyncio.run(expander.aencode(TEXTS, role=role)), expected)
    assert sum(ran) == len(TEXTS) and max(ran) > 1 and len(ran) < len(TEXTS)


@pytest.mark.slow
def test_awaited_calls_and_threads_share_runs(expander: Expander, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = expander.encode(TEXTS)
    ran = observed(monkeypatch)

    async def gather() -> list[SparseVector]:
        return [vector for (vector,) in await asyncio.gather(*map(expander.aencode, TEXTS))]

    with ThreadPoolExecutor(8) as threads:
        awaited = threads.submit(asyncio.run, gather())
        alone = [*threads.map(lambda text: expander.encode(text)[0], TEXTS)]
        assert agree(awaited.result(), expected)
    assert agree(alone, expected)
    assert sum(ran) == 2 * len(TEXTS) and max(ran) > 1
