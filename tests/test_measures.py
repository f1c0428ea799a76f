from __future__ import annotations

import ast
import math
import os
import subprocess
import sys

import ir_measures
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from spladerunner.evaluation.measures import EXPONENTIAL, MAIN, compare, holm, measure, parse_measure
from spladerunner.evaluation.search import EMPTY, Ranking

IDS = [f"d{n}" for n in range(1200)]


def ranking(*documents: int) -> Ranking:
    return Ranking(np.array(documents), np.ones(len(documents), dtype=np.float32))


def discounted(gains: list[int]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def test_figures_are_the_definitions_by_hand() -> None:
    judgments = {
        "a": {"d1": 1, "d0": 3, "d2": 2, "gone": 1},
        "b": {"d1100": 1, "d50": 1, "d99": 1, "d100": 1, "d999": 1},
        "c": {"d1": 1},
    }
    scores = measure(judgments, IDS, [ranking(1, 9, 0), ranking(*range(1000)), EMPTY])
    assert scores[MAIN].tolist() == pytest.approx([discounted([1, 0, 3]) / discounted([3, 2, 1, 1]), 0, 0])
    assert scores[EXPONENTIAL].tolist() == pytest.approx([discounted([1, 0, 7]) / discounted([7, 3, 1, 1]), 0, 0])
    assert scores["MRR@10"].tolist() == [1, 0, 0]
    assert scores["recall@100"].tolist() == [2 / 4, 2 / 5, 0]
    assert scores["recall@1000"].tolist() == [2 / 4, 4 / 5, 0]


def by_hand(grades: dict[str, int], found: list[str]) -> dict[str, float]:
    gains = [max(grades.get(document, 0), 0) for document in found]
    relevant = {document for document, grade in grades.items() if grade > 0}
    best = discounted(sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:10])
    first = next((rank for rank, gain in enumerate(gains, 1) if gain), 11)
    return {
        MAIN: discounted(gains[:10]) / best if best else 0.0,
        "MRR@10": 1 / first if first <= 10 else 0.0,
        "recall@100": len(relevant & {*found[:100]}) / len(relevant) if relevant else 0.0,
    }


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_ids_and_grades_give_the_figures_of_the_definitions(data: st.DataObject) -> None:
    """Among them NUL, lone surrogates and ids that trec_eval would take for one another."""
    ids = data.draw(st.lists(st.text(max_size=4) | st.sampled_from(["a", "a\0", "a\0b"]), unique=True, max_size=15))
    extra = st.text(max_size=2)
    grades = st.dictionaries(st.sampled_from(ids) | extra if ids else extra, st.integers(-1000, 1000), max_size=15)
    judgments = data.draw(st.dictionaries(st.text(max_size=4), grades, min_size=1, max_size=4))
    rankings = [data.draw(st.permutations(range(len(ids)))) for _ in judgments]
    scores = measure(judgments, ids, [ranking(*order) if order else EMPTY for order in rankings])
    for at, (query, order) in enumerate(zip(judgments, rankings, strict=True)):
        expected = by_hand(judgments[query], [ids[document] for document in order])
        assert {name: scores[name][at] for name in expected} == pytest.approx(expected)


def test_equal_scores_keep_the_order_of_the_ranking() -> None:
    judgments = {"a": {"d0": 1}}
    assert measure(judgments, IDS, [ranking(1, 0)])["MRR@10"] == measure(judgments, IDS, [ranking(2, 0)])["MRR@10"]


def test_a_query_without_a_relevant_document_scores_zero_and_negative_grades_are_not_relevant() -> None:
    scores = measure({"a": {"d0": 0}, "b": {"d0": -2, "d1": 1}}, IDS, [ranking(0), ranking(0, 1)])
    assert EXPONENTIAL not in scores
    assert scores["MRR@10"].tolist() == [0, 0.5] and scores[MAIN].tolist() == pytest.approx([0, 1 / math.log2(3)])


@pytest.mark.slow
def test_the_two_gains_are_never_confused_whatever_the_hash_seed() -> None:
    """ir_measures, given both at once, confuses them under some hash seeds."""
    code = """
import numpy as np
from spladerunner.evaluation.measures import measure, Ranking
found = Ranking(np.array([1, 0]), np.ones(2, dtype=np.float32))
figures = measure({"a": {"x": 2, "y": 1}}, ["x", "y"], [found])
print({name: round(float(scores[0]), 4) for name, scores in figures.items()})
"""
    printed = {
        subprocess.check_output([sys.executable, "-c", code], text=True, env={**os.environ, "PYTHONHASHSEED": seed})
        for seed in "123"
    }
    linear, exponential = discounted([1, 2]) / discounted([2, 1]), discounted([1, 3]) / discounted([3, 1])
    (line,) = printed
    assert f"'{MAIN}': {linear:.4f}" in line and f"'{EXPONENTIAL}': {exponential:.4f}" in line


def test_a_grade_below_zero_counts_as_zero_where_others_tell_unjudged_from_not_relevant() -> None:
    """Binary preference asks how many documents that are judged as not relevant are above: one, by either grade."""
    found = Ranking(np.array([1, 0]), np.ones(2, dtype=np.float32))
    (negative,), (zero,) = (
        measure({"a": {"x": 1, "y": grade}}, ["x", "y"], [found], ["Bpref"])["Bpref"] for grade in (-1, 0)
    )
    assert negative == zero == 0


@pytest.mark.parametrize(("grade", "added"), [(1, False), (2, True), (20, True), (21, False)])
def test_exponential_gains_are_added_where_trec_eval_has_them_in_little_memory(grade: int, added: bool) -> None:
    """It has 8 bytes for each gain up to the largest, so that one judgment of grade 30 would take 8 GB."""
    found = Ranking(np.array([0]), np.ones(1, dtype=np.float32))
    assert (EXPONENTIAL in measure({"a": {"x": grade, "y": 1}}, ["x", "y"], [found])) == added


def test_the_comparison_is_scipys_paired_t_test() -> None:
    random = np.random.default_rng(0)
    ours, theirs = random.random(50), random.random(50)
    theirs[0] = ours[0]
    found = compare(ours, theirs)
    differences = ours - theirs
    t = differences.mean() / (differences.std(ddof=1) / math.sqrt(50))
    assert found.p == pytest.approx(2 * scipy.stats.t.sf(abs(t), 49))
    assert found.difference == pytest.approx(ours.mean() - theirs.mean())
    assert (found.better, found.worse, found.equal) == ((ours > theirs).sum(), (ours < theirs).sum(), 1)


def test_holms_correction_is_that_worked_by_hand() -> None:
    # 0.005 × 4, 0.01 × 3, 0.03 × 2, and 0.04 × 1, which may not be less than the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, None, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, None, 0.06, None, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1] and holm([0.2]) == [0.2] and holm([]) == [] and holm([None]) == [None]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nDCG", None),
        ("P(rel=2)@5", None),
        ("recall@7", None),
        ("foo@10", "not a measure"),
        ("R", "not a measure"),
        ("nDCG@", "not a measure"),
        ("alpha_nDCG@10", "needs a package"),
    ],
)
def test_a_measure_is_one_of_ir_measures_or_an_error(name: str, words: str | None) -> None:
    if words is None:
        measure({"q": {"d0": 2}}, IDS, [ranking(0)], [name])
    else:
        with pytest.raises(ValueError, match=words):
            parse_measure(name)


def test_measures_are_read_as_their_classes_make_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on Python 3.14, which has no ast.Num: ir_measures 0.4.3 reads no name of a measure there."""
    for removed in ("Num", "Str", "NameConstant"):
        monkeypatch.delitem(vars(ast), removed, raising=False)
    for name, expected in {
        "AP": ir_measures.AP,
        "recall@100": ir_measures.R @ 100,
        "P(rel=2)@5": ir_measures.P(rel=2) @ 5,
        "nDCG(dcg='exp-log2')@10": ir_measures.nDCG(dcg="exp-log2") @ 10,
        "Success(rel=1)@3": ir_measures.Success(rel=1) @ 3,
        "Judged@7": ir_measures.Judged @ 7,
    }.items():
        assert parse_measure(name) == expected, name


def test_without_variance_there_is_no_p() -> None:
    one, two = np.ones(1), np.ones(2)
    assert compare(two, two).p == 1 and compare(one, one).p == 1
    assert compare(one, one / 2).p is None and compare(two, two / 2).p is None


@pytest.mark.slow
def test_queries_with_only_negative_grades_score_zero() -> None:
    """Passed on unchanged, they make trec_eval write outside its memory, which ends the process."""
    code = """
import numpy as np
from spladerunner.evaluation.measures import measure, Ranking
judgments = {}
for number in range(200):
    judgments[f"good {number}"] = {"x": 3, "y": 1}
    judgments[f"spam {number}"] = {"x": -2, "z": -1000}
found = Ranking(np.arange(3), np.array([3, 2, 1], dtype=np.float32))
scores = measure(judgments, ["x", "y", "z"], [found] * len(judgments))
print({tuple(row) for figures in scores.values() for row in figures.reshape(-1, 2).tolist()})
"""
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
    assert (done.returncode, done.stdout) == (0, "{(1.0, 0.0)}\n"), done.stderr
