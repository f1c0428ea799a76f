"""Work on a thread of its own: its result, its error, and that the caller goes on meanwhile."""

from __future__ import annotations

import threading

import pytest

from spladerunner.model.background import BackgroundCall


def test_the_caller_goes_on_until_it_asks_for_the_result() -> None:
    gone_on = threading.Event()
    ahead = BackgroundCall(lambda: gone_on.wait(timeout=60))
    gone_on.set()
    assert ahead.result() is True
    assert ahead.result() is True


@pytest.mark.parametrize("error", [MemoryError("full"), KeyboardInterrupt(), SystemExit(3)])
def test_what_it_raises_is_raised_where_the_result_is_asked_for(error: BaseException) -> None:
    def fail() -> None:
        raise error

    ahead = BackgroundCall(fail)
    for _ in range(2):
        with pytest.raises(type(error)) as raised:
            ahead.result()
        assert raised.value is error
