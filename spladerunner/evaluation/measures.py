"""Measures of rankings by ir_measures, and significance of their differences by scipy."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ir_measures
import numpy as np
import scipy.stats
from ir_measures import Measure, nDCG
from numpy.typing import NDArray

from spladerunner.evaluation.search import Ranking

MAIN = "nDCG@10"
DEFAULT_MEASURES = (MAIN, "MRR@10", "recall@100", "recall@1000")
"""Systems are compared on the first."""

EXPONENTIAL = "nDCG@10, gain 2^grade - 1"
"""A further measure where judgments are graded."""

LARGEST_EXPONENT = 20
"""trec_eval has an array with a place for each gain up to the largest: 8 MB for 2^20, and 8 GB for 2^30."""

SIGNIFICANCE_TEST = "paired t-test over queries, two-sided"

Scores = dict[str, NDArray[np.float64]]
"""{measure: (queries,)}"""


def parse_measure(name: str) -> Measure:
    """The measure of ir_measures that has the name, such as "AP", "P(rel=2)@5" or "recall@100".

    Raises ValueError if there is none, or if it needs a package that is not installed.

    >>> parse_measure("recall@100")
    R@100
    """
    try:
        found = _read(name.replace("recall@", "R@"))
        found.validate_params()  # type: ignore[no-untyped-call]
    except (AssertionError, NameError, SyntaxError, TypeError, ValueError) as error:
        raise ValueError(
            f"{name!r} is not a measure of ir_measures ({error}); https://ir-measur.es lists them"
        ) from error
    if not ir_measures.DefaultPipeline.supports(found):  # type: ignore[no-untyped-call]
        raise ValueError(
            f"{name!r} needs a package for ir_measures that is not installed; https://ir-measur.es names it"
        )
    return found


def _read(name: str) -> Measure:
    """NAME(parameter=value, ...)@CUTOFF. ir_measures' own parse_measure fails on Python 3.14, which has no ast.Num."""
    node: Any = ast.parse(name, mode="eval").body
    parameters: dict[Any, Any] = {}
    cutoff = None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        node, cutoff = node.left, ast.literal_eval(node.right)
    if isinstance(node, ast.Call) and not node.args:
        parameters = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
        node = node.func
    if not isinstance(node, ast.Name) or node.id not in ir_measures.measures.registry:
        raise ValueError("there is no measure of that name")
    kind = ir_measures.measures.registry[node.id]
    if cutoff is not None:
        parameters[kind.AT_PARAM] = cutoff
    made: Measure = kind(**parameters)
    return made


def measure(
    judgments: Mapping[str, Mapping[str, int]],
    document_ids: Sequence[str],
    rankings: Sequence[Ranking],
    measures: Sequence[str] = DEFAULT_MEASURES,
) -> Scores:
    """Scores each query's ranking. judgments: {query: {document: grade}}; rankings: in the order of judgments.

    nDCG takes the grade as the gain, as trec_eval does. With judgments graded up to LARGEST_EXPONENT, nDCG with a gain
    of 2^grade - 1 is added to the default measures (Burges et al., "Learning to rank using gradient descent", ICML
    2005). A grade of 1 or more is relevant, and one below 0 is 0. A query that retrieves nothing scores 0. Raises what
    parse_measure raises.

    >>> ranking = Ranking(np.array([2, 0]), np.array([1.5, 0.5], dtype=np.float32))
    >>> scores = measure({"q": {"a": 1}}, ["a", "b", "c"], [ranking])
    >>> scores["MRR@10"].tolist()
    [0.5]
    """
    parsed = {name: parse_measure(name) for name in measures}
    grades = {grade for row in judgments.values() for grade in row.values() if grade > 0}
    if tuple(measures) == DEFAULT_MEASURES and 1 < max(grades, default=0) <= LARGEST_EXPONENT:
        parsed[EXPONENTIAL] = nDCG(gains={grade: 2**grade - 1 for grade in grades}) @ 10
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
    scores = {name: np.zeros(len(judgments)) for name in parsed}
    for name, alone in parsed.items():  # together, ir_measures may give one nDCG the gains of the other
        for metric in ir_measures.iter_calc([alone], numbered, run):
            scores[name][int(metric.query_id)] = metric.value
    return scores


@dataclass(frozen=True)
class Comparison:
    """One system's scores against another's over the same queries.

    difference: of the means. p: of the paired t-test, two-sided; None if it is not defined, as for one query.
    better, worse, equal: numbers of queries. p_holm: p corrected for the number of comparisons; None before.
    """

    difference: float
    p: float | None
    better: int
    worse: int
    equal: int
    p_holm: float | None = None


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


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Corrects p-values for their number; None, a test that is not defined, stays None and does not count.

    A corrected value below 0.05 rejects with a probability of at most 0.05 of any false rejection among all: Holm,
    "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    defined = sorted((value, at) for at, value in enumerate(p) if value is not None)
    corrected: list[float | None] = [None] * len(p)
    largest = 0.0
    for done, (value, at) in enumerate(defined):
        largest = max(largest, min(1.0, (len(defined) - done) * value))
        corrected[at] = largest
    return corrected
