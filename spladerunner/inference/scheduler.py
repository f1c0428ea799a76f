"""Which texts run together, and their results back in order.

Each text runs alone in the graph, unpadded, and several run side by side on threads. That is what makes a text's
vector independent of its neighbours: a quantized graph scales its activations over all that is in one run. It is
also the fastest way on CPUs ("How it is built" in the README has the measurements).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from spladerunner.inference.tokenizer import TokenizedText
from spladerunner.vector import SparseVector

if TYPE_CHECKING:
    from concurrent.futures import Future


def run_in_order(
    batches: Iterable[TokenizedText],
    run: Callable[[TokenizedText], SparseVector],
    *,
    threads: int,
    batch_tokens: int,
) -> Iterator[SparseVector]:
    """run(batch) for each batch, in the order of the batches, on up to `threads` threads.

    At most batch_tokens tokens are under way at once, a batch of more alone. Batches are taken from the iterable
    only as there is room for them. Closing the iterator ends the threads.
    """
    if threads == 1:
        yield from map(run, batches)
        return
    from concurrent.futures import ThreadPoolExecutor  # a lone text starts sooner without

    under_way: deque[tuple[int, Future[SparseVector]]] = deque()

    def take() -> SparseVector:
        return under_way.popleft()[1].result()

    executor = ThreadPoolExecutor(threads, thread_name_prefix="spladerunner")
    try:
        source = iter(batches)
        while True:
            while under_way and under_way[0][1].done():
                yield take()
            try:
                batch = next(source, None)
            except Exception:
                while under_way:  # what came before the error is not lost
                    yield take()
                raise
            if batch is None:
                break
            while under_way and sum(size for size, _ in under_way) + batch.ids.size > batch_tokens:
                yield take()
            under_way.append((batch.ids.size, executor.submit(run, batch)))
        while under_way:
            yield take()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
