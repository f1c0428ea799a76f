"""BM25 by bm25s: the lexical baseline that every model stands beside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import bm25s
import numpy as np
import Stemmer

from spladerunner.evaluation.index_statistics import Footprint
from spladerunner.evaluation.search import DEPTH, NOTHING, Ranking, best, tie_order

K1, B = 0.9, 0.4
"""As Anserini's baselines have them."""


def words(texts: Iterable[str]) -> list[list[str]]:
    """The stems of each text by Snowball's English stemmer, without English stop words."""
    stems: list[list[str]] = bm25s.tokenize(
        list(texts), stopwords="en", stemmer=Stemmer.Stemmer("english"), return_ids=False, show_progress=False
    )
    return stems


class BM25:
    """An index of documents: k1 0.9, b 0.4, Snowball stemming, English stop words.

    Where no document holds a word, nothing is found.
    """

    def __init__(self, documents: Mapping[str, str]) -> None:
        self._count = len(documents)
        self._ties = tie_order(list(documents))
        index = bm25s.BM25(k1=K1, b=B)
        stems = words(documents.values())
        held = any(stems)
        if held:
            index.index(stems, show_progress=False)
        self._index = index
        self._position: dict[str, int] = index.vocab_dict if held else {}
        self.footprint = Footprint(len(index.scores["indptr"]) - 1 if held else 0)
        self.footprint.count_lengths([len(set(row)) for row in stems])
        if held:
            self.footprint.frequency += np.diff(index.scores["indptr"])

    def ranking(self, stems: Sequence[str], depth: int = DEPTH) -> Ranking:
        """What a query finds."""
        known = self._known(stems)
        if not known:
            return NOTHING
        scores = self._index.get_scores(known).astype(np.float32)
        found = np.flatnonzero(scores > 0)
        return best(Ranking(found, scores[found]), self._ties, depth)

    def query_footprint(self, queries: Iterable[Sequence[str]]) -> Footprint:
        """How many words the queries have that any document holds, and which."""
        side = Footprint(len(self.footprint.frequency))
        for stems in queries:
            known = set(self._known(stems))
            side.frequency[[self._position[stem] for stem in known]] += 1
            side.count_lengths([len(known)])
        return side

    def contributions(self, stems: Sequence[str], document: int) -> dict[str, float]:
        """What each word of a query adds to a document's score, largest first."""
        weights = {}
        for stem, count in Counter(self._known(stems)).items():
            at = self._position[stem]
            cells = slice(*self._index.scores["indptr"][at : at + 2])
            held = np.flatnonzero(self._index.scores["indices"][cells] == document)
            if held.size:
                weights[stem] = count * float(self._index.scores["data"][cells][held[0]])
        return dict(sorted(weights.items(), key=lambda pair: -pair[1]))

    def _known(self, stems: Sequence[str]) -> list[str]:
        return [stem for stem in stems if stem in self._position]
