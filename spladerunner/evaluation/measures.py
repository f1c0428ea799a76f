"""Measures of rankings by ir_measures, and significance of their differences by scipy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ir_measures
import numpy as np
import scipy.stats
from ir_measures import RR, R, nDCG
from numpy.typing import NDArray

from spladerunner.evaluation.search import Ranking

MAIN = "nDCG@10"
"""The measure on which systems are compared."""

MEASURES = {MAIN: nDCG @ 10, "MRR@10": RR @ 10, "recall@100": R @ 100, "recall@1000": R @ 1000}

EXPONENTIAL = "nDCG@10, gain 2^grade - 1"
"""A further measure where judgments are graded."""

LARGEST_EXPONENT = 30

SIGNIFICANCE_TEST = f"paired t-test over queries, two-sided, on {MAIN}"

Scores = dict[str, NDArray[np.float64]]
"""{measure: (queries,)}. Of all measures, higher is better."""


def measure(
    judgments: Mapping[str, Mapping[str, int]], document_ids: Sequence[str], rankings: Sequence[Ranking]
) -> Scores:
    """Scores each query's ranking. judgments: {query: {document: grade}}; rankings: in the order of judgments.

    nDCG takes the grade as the gain, as trec_eval does. With graded judgments, nDCG with a gain of 2^grade - 1 is added
    (Burges et al., "Learning to rank using gradient descent", ICML 2005). A grade of 1 or more is relevant. A query
    that retrieves nothing scores 0.

    >>> ranking = Ranking(np.array([2, 0]), np.array([1.5, 0.5], dtype=np.float32))
    >>> scores = measure({"q": {"a": 1}}, ["a", "b", "c"], [ranking])
    >>> scores["MRR@10"].tolist()
    [0.5]
    """
    measures = dict(MEASURES)
    grades = {grade for row in judgments.values() for grade in row.values() if grade > 0}
    if 1 < max(grades, default=0) <= LARGEST_EXPONENT:
        measures[EXPONENTIAL] = nDCG(gains={grade: 2**grade - 1 for grade in grades}) @ 10
    # Numbers for ids, as trec_eval's strings end at NUL and are UTF-8. Scores by rank, as ties are broken already.
    run = {
        str(query): {
            str(at): float(len(ranking.documents) - rank) for rank, at in enumerate(ranking.documents.tolist())
        }
        for query, (_, ranking) in enumerate(zip(judgments, rankings, strict=True))
    }
    number = {document: str(at) for at, document in enumerate(document_ids)}
    for document in {document for row in judgments.values() for document in row}:
        number.setdefault(document, str(len(number)))
    # trec_eval writes outside its memory if all grades of a query are -2 or less; to these measures 0 is the same.
    numbered = {
        str(query): {number[document]: max(grade, 0) for document, grade in row.items()}
        for query, row in enumerate(judgments.values())
    }
    scores = {name: np.zeros(len(judgments)) for name in measures}
    for name, alone in measures.items():  # together, ir_measures may give one nDCG the gains of the other
        for metric in ir_measures.iter_calc([alone], numbered, run):
            scores[name][int(metric.query_id)] = metric.value
    return scores


@dataclass(frozen=True)
class Comparison:
    """One system's scores against another's over the same queries.

    difference: of the means. p: of the paired t-test, two-sided; None if it is not defined, as for one query.
    better, worse, equal: numbers of queries.
    """

    difference: float
    p: float | None
    better: int
    worse: int
    equal: int


def compare(scores: NDArray[np.float64], baseline: NDArray[np.float64]) -> Comparison:
    """Compares means by Student's paired t-test over queries.

    It agrees with the randomisation test: Smucker, Allan and Carterette, "A comparison of statistical significance
    tests for information retrieval evaluation", CIKM 2007.

    >>> compare(np.array([0.5, 1.0, 0.2]), np.array([0.5, 0.5, 0.1])).better
    2
    """
    differences = scores - baseline
    if not differences.any():
        p = 1.0
    elif len(differences) < 2 or np.ptp(differences) == 0:
        p = None
    else:
        p = float(scipy.stats.ttest_rel(scores, baseline).pvalue)
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    return Comparison(float(differences.mean()), p, better, worse, len(differences) - better - worse)
