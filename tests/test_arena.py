"""Tracks peak memory: has it fallen, and after how many runs?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spladerunner.inference.arena import PATIENCE, PeakMemory


def test_falls_once_after_enough_smaller_runs() -> None:
    memory = PeakMemory()
    assert not memory.has_fallen(100)
    assert [memory.has_fallen(10) for _ in range(3 * PATIENCE)].index(True) == PATIENCE - 1
    assert not any(memory.has_fallen(10) for _ in range(3 * PATIENCE))


def test_a_run_of_half_the_peak_restarts_the_count() -> None:
    memory = PeakMemory()
    memory.has_fallen(100)
    for _ in range(3):
        assert not any(memory.has_fallen(49) for _ in range(PATIENCE - 1))
        assert not memory.has_fallen(50)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60))
def test_a_repeated_mix_of_sizes_never_falls(mix: list[int]) -> None:
    memory = PeakMemory()
    assert not any(memory.has_fallen(needed) for _ in range(20) for needed in mix)
