"""Dynamic batching: texts of concurrent calls run together on a device.

While batches run, others wait. The oldest runs next, and takes along those of other calls that are padded to the same
length. So nothing waits for more texts to come, none is passed over for ever, and many callers with a text each fill a
device like one caller with many texts.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from itertools import islice
from typing import NamedTuple

from spladerunner.inference.admission import Admission
from spladerunner.inference.batch_encoder import BatchEncoder
from spladerunner.inference.batches import MOST_TEXTS, WORKERS, Batch, padded_length, run_in_batches
from spladerunner.inference.fork import renew_in_child
from spladerunner.inference.tokenizer import TokenizedText
from spladerunner.inference.worker_threads import WorkerThreads
from spladerunner.vector import SparseVector


class _Waiting(NamedTuple):
    """A batch that waits. call: whose other batches it does not join, None for a text that may join any."""

    batch: Batch
    call: object | None
    vectors: Future[list[SparseVector]]


class DynamicBatches:
    """An encoder that threads and event loops share: it gathers their texts into batches.

    encoder: runs a batch. admission: bounds the tokens that run at once; no run has more than tokens_in_flight.
    threads: batches under way at most, and no more than WORKERS.
    """

    def __init__(self, encoder: BatchEncoder, admission: Admission, threads: int, tokens_in_flight: int) -> None:
        self._encoder = encoder
        self._admission = admission
        self._most = min(threads, WORKERS)
        self._tokens_in_flight = tokens_in_flight
        self._threads = WorkerThreads(self._most)
        self._renew_locks()
        renew_in_child(self)

    def _renew_locks(self) -> None:
        """Forgets the batches that wait: in a child of fork, those who wait for them are gone."""
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []

    def __call__(self, text: TokenizedText) -> SparseVector:
        """The vector of one text, which runs alone."""
        return self._encoder(text)

    def stream(self, texts: Iterable[TokenizedText], max_length: int) -> Iterator[SparseVector]:
        """Yields the vector of each text, in order; see run_in_batches.

        The batches depend on these texts alone, unless there are other calls at the same time.
        """
        call = object()
        pool = self._threads.pool()
        try:
            yield from run_in_batches(
                texts,
                lambda batch: self._submit(batch, call).result(),
                budget=self._encoder.budget,
                max_length=max_length,
                threads=self._most,
                tokens_in_flight=self._tokens_in_flight,
            )
        finally:
            del pool  # the traceback of an error must not keep it

    async def encode(self, text: TokenizedText, max_length: int) -> SparseVector:
        """The vector of a text. When cancelled, a text that waits is withdrawn; one that runs ends first."""
        batch = Batch.of([(0, text)], padded_length(text.tokens, max_length))
        pool = self._threads.pool()
        try:
            (vector,) = await asyncio.wrap_future(self._submit(batch, None))
        finally:
            del pool  # the traceback of an error must not keep it
        return vector

    def _submit(self, batch: Batch, call: object | None) -> Future[list[SparseVector]]:
        vectors: Future[list[SparseVector]] = Future()
        try:
            with self._lock:
                self._waiting.append(_Waiting(batch, call, vectors))
            self._threads.pool().submit(self._run_waiting)
        except BaseException:
            vectors.cancel()
            raise
        return vectors

    def _run_waiting(self) -> None:
        while together := self._take():
            self._run(together)

    def _take(self) -> list[_Waiting]:
        """The oldest batch that waits, and those that run with it; none if it ran with another."""
        together: list[_Waiting] = []
        with self._lock:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                if not self._fits(each, together):
                    self._waiting.append(each)
                elif each.vectors.set_running_or_notify_cancel():
                    together.append(each)
        return together

    def _fits(self, each: _Waiting, together: list[_Waiting]) -> bool:
        if not together:
            return True
        if each.call is not None and any(each.call is other.call for other in together):
            return False
        rows = sum(len(other.batch.places) for other in (*together, each))
        length = each.batch.ids.shape[1]
        most = min(self._encoder.budget.tokens, self._tokens_in_flight)
        return length == together[0].batch.ids.shape[1] and rows <= MOST_TEXTS and rows * length <= most

    def _run(self, together: list[_Waiting]) -> None:
        batch = Batch.joined([each.batch for each in together])
        try:
            found = iter(self._admission.run(batch.tokens, partial(self._encoder.encode, batch)))
        except BaseException as error:
            if len(together) == 1:
                together[0].vectors.set_exception(error)
            else:  # the failure of a text is that of its own call
                for each in together:
                    self._run([each])
        else:
            for each in together:
                each.vectors.set_result([*islice(found, len(each.batch.places))])
