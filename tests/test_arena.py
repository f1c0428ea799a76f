"""When memory is given back: after a long while with less than half of what was needed once, and not before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spladerunner.inference.arena import PATIENCE, Demand


def test_falls_after_so_many_runs_with_less_and_once() -> None:
    demand = Demand()
    assert not demand.has_fallen(100)
    assert [demand.has_fallen(10) for _ in range(3 * PATIENCE)].index(True) == PATIENCE - 1
    assert not any(demand.has_fallen(10) for _ in range(3 * PATIENCE))


def test_a_run_with_half_begins_the_count_again() -> None:
    demand = Demand()
    demand.has_fallen(100)
    for _ in range(3):
        assert not any(demand.has_fallen(49) for _ in range(PATIENCE - 1))
        assert not demand.has_fallen(50)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60))
def test_texts_of_the_same_mix_never_make_it_fall(mix: list[int]) -> None:
    demand = Demand()
    assert not any(demand.has_fallen(needed) for _ in range(20) for needed in mix)
