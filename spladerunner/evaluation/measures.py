"""How good rankings are, and whether one system's are better than another's by more than chance."""

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
EXPONENTIAL = "nDCG@10, gain 2^grade - 1"
MOST_EXPONENT = 30

_MEASURES = {MAIN: nDCG @ 10, "MRR@10": RR @ 10, "recall@100": R @ 100, "recall@1000": R @ 1000}

Scores = dict[str, NDArray[np.float64]]
"""{measure: (queries,)}"""


def measure(
    judgements: Mapping[str, Mapping[str, int]], document_ids: Sequence[str], rankings: Sequence[Ranking]
) -> Scores:
    """Each query's figure by ir_measures, in the order of the judgements; a query that finds nothing has 0.

    nDCG takes the grade as the gain, as trec_eval does. Where judgements are graded, it is given with a gain of
    2^grade - 1 too (Burges et al., "Learning to rank using gradient descent", ICML 2005). A grade of 1 or more is
    relevant.
    """
    measures = dict(_MEASURES)
    grades = {grade for row in judgements.values() for grade in row.values() if grade > 0}
    if 1 < max(grades, default=0) <= MOST_EXPONENT:
        measures[EXPONENTIAL] = nDCG(gains={grade: 2**grade - 1 for grade in grades}) @ 10
    # Ties are settled in the rankings already, and every tool shall see the same order.
    run = {
        query: {document_ids[at]: float(len(found.documents) - rank) for rank, at in enumerate(found.documents)}
        for query, found in zip(judgements, rankings, strict=True)
    }
    # trec_eval writes outside its memory where all grades of a query are -2 or less; to these measures 0 is the same.
    judged = {query: {document: max(grade, 0) for document, grade in row.items()} for query, row in judgements.items()}
    position = {query: at for at, query in enumerate(judgements)}
    scores = {name: np.zeros(len(judgements)) for name in measures}
    for name, alone in measures.items():  # together, ir_measures may give one nDCG the gains of the other
        for figure in ir_measures.iter_calc([alone], judged, run):
            scores[name][position[figure.query_id]] = figure.value
    return scores


@dataclass(frozen=True)
class Comparison:
    """One system's figures against another's, query by query.

    difference: of the means. p: two-sided, by the paired t-test; None where it cannot be told, as for one query.
    """

    difference: float
    p: float | None
    better: int
    worse: int
    equal: int


def compare(scores: NDArray[np.float64], against: NDArray[np.float64]) -> Comparison:
    """Compares means by Student's paired t-test over queries.

    It and the randomisation test agree: Smucker, Allan and Carterette, "A comparison of statistical significance tests
    for information retrieval evaluation", CIKM 2007.
    """
    differences = scores - against
    if not differences.any():
        p = 1.0
    elif len(differences) < 2 or np.ptp(differences) == 0:
        p = None
    else:
        p = float(scipy.stats.ttest_rel(scores, against).pvalue)
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    return Comparison(float(differences.mean()), p, better, worse, len(differences) - better - worse)
