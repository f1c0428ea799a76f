from __future__ import annotations

import numpy as np
import pytest

from spladerunner.evaluation.fusion import reciprocal_rank, weighted
from spladerunner.evaluation.search import EMPTY, Ranking, tie_order

TIES = tie_order(["d0", "d1", "d2", "d3", "d4"])


def ranking(*scored: tuple[int, float]) -> Ranking:
    return Ranking(np.array([at for at, _ in scored]), np.array([score for _, score in scored], dtype=np.float32))


FIRST, SECOND = ranking((3, 8.0), (0, 6.0), (2, 1.0)), ranking((0, 0.5), (4, 0.4))


def test_reciprocal_rank_is_the_sum_worked_by_hand() -> None:
    found = reciprocal_rank([FIRST, SECOND], TIES)
    assert found.documents.tolist() == [0, 3, 4, 2]  # 4 is second of a ranking, 2 third
    assert found.scores.tolist() == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62, 1 / 63])
    assert reciprocal_rank([FIRST, SECOND], TIES, depth=2).documents.tolist() == [0, 3]


def test_weighted_scores_are_the_sum_worked_by_hand() -> None:
    found = weighted([FIRST, SECOND], [0.75, 0.25], TIES)
    assert found.documents.tolist() == [0, 3, 4, 2]
    assert found.scores.tolist() == pytest.approx(
        [0.75 * 6 / 8 + 0.25 * 0.5 / 0.5, 0.75 * 8 / 8, 0.25 * 0.4 / 0.5, 0.75 * 1 / 8]
    )
    assert weighted([FIRST, SECOND], [0.1, 0.9], TIES).documents.tolist() == [0, 4, 3, 2]
    assert weighted([FIRST, SECOND], [1, 0], TIES).documents.tolist()[:3] == [3, 0, 2]


def test_equal_scores_are_in_trec_evals_order_and_nothing_stays_nothing() -> None:
    mirrored = [ranking((1, 2.0), (3, 1.0)), ranking((3, 2.0), (1, 1.0))]
    assert reciprocal_rank(mirrored, TIES).documents.tolist() == [3, 1]
    assert weighted(mirrored, [0.5, 0.5], TIES).documents.tolist() == [3, 1]
    for fused in (reciprocal_rank([EMPTY, EMPTY], TIES), weighted([EMPTY, EMPTY], [0.5, 0.5], TIES)):
        assert fused.documents.size == fused.scores.size == 0
    assert weighted([EMPTY, SECOND], [0.5, 0.5], TIES).scores.tolist() == pytest.approx([0.5, 0.4])
