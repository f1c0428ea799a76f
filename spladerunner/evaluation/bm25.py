"""BM25 by bm25s: the lexical baseline that every model is compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import bm25s
import numpy as np
import Stemmer

from spladerunner.evaluation.index_statistics import IndexStatistics
from spladerunner.evaluation.search import DEPTH, EMPTY, Ranking, tie_order, top_ranked

K1, B = 0.9, 0.4
"""The parameters of Anserini's baselines."""


def stem(texts: Iterable[str]) -> list[list[str]]:
    """Splits each text into words, drops English stop words, and stems the rest by Snowball's English stemmer.

    >>> stem(["The bombs of the reactors"])
    [['bomb', 'reactor']]
    """
    stems: list[list[str]] = bm25s.tokenize(
        list(texts), stopwords="en", stemmer=Stemmer.Stemmer("english"), return_ids=False, show_progress=False
    )
    return stems


class BM25:
    """An inverted index of stemmed documents, {id: text}, scored with k1 0.9 and b 0.4.

    statistics: counts over the documents' stems.

    >>> index = BM25({"a": "atomic bombs", "b": "a river"})
    >>> index.rank(["bomb"]).documents.tolist()
    [0]
    """

    def __init__(self, documents: Mapping[str, str]) -> None:
        self._count = len(documents)
        self._ties = tie_order(list(documents))
        index = bm25s.BM25(k1=K1, b=B)
        stems = stem(documents.values())
        indexed = any(stems)  # bm25s refuses an empty vocabulary
        if indexed:
            index.index(stems, show_progress=False)
        self._index = index
        self._position: dict[str, int] = index.vocab_dict if indexed else {}
        self.statistics = IndexStatistics(len(index.scores["indptr"]) - 1 if indexed else 0)
        self.statistics.add_lengths([len(set(row)) for row in stems])
        if indexed:
            self.statistics.frequency += np.diff(index.scores["indptr"])

    def rank(self, stems: Sequence[str], depth: int = DEPTH) -> Ranking:
        """The documents that hold a stem of the query, best first."""
        known = self._known(stems)
        if not known:
            return EMPTY
        scores = self._index.get_scores(known).astype(np.float32)
        found = np.flatnonzero(scores > 0)
        return top_ranked(Ranking(found, scores[found]), self._ties, depth)

    def query_statistics(self, queries: Iterable[Sequence[str]]) -> IndexStatistics:
        """Counts over the distinct stems of each query that occur in the index."""
        statistics = IndexStatistics(len(self.statistics.frequency))
        for stems in queries:
            known = set(self._known(stems))
            statistics.frequency[[self._position[stem] for stem in known]] += 1
            statistics.add_lengths([len(known)])
        return statistics

    def contributions(self, stems: Sequence[str], document: int) -> dict[str, float]:
        """Each stem's share of a document's score, {stem: score}, largest first."""
        shares = {}
        for stem, count in Counter(self._known(stems)).items():
            position = self._position[stem]
            postings = slice(*self._index.scores["indptr"][position : position + 2])
            found = np.flatnonzero(self._index.scores["indices"][postings] == document)
            if found.size:
                shares[stem] = count * float(self._index.scores["data"][postings][found[0]])
        return dict(sorted(shares.items(), key=lambda pair: -pair[1]))

    def _known(self, stems: Sequence[str]) -> list[str]:
        return [stem for stem in stems if stem in self._position]
