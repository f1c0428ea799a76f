from __future__ import annotations

from spladerunner import SparseVector
from spladerunner.vocabulary import Vocabulary

VOCABULARY = Vocabulary({"[CLS]": 0, "cat": 1, "##s": 2, "dog": 4}, [0])


def test_weights_come_heaviest_first_in_the_vocabularys_spelling() -> None:
    weights = VOCABULARY.weights(SparseVector([1, 2, 4], [0.5, 2.0, 1.0]))
    assert list(weights.items()) == [("##s", 2.0), ("dog", 1.0), ("cat", 0.5)]


def test_equal_weights_come_in_the_order_of_the_vocabulary() -> None:
    assert list(VOCABULARY.weights(SparseVector([1, 2, 4], [1, 1, 1]))) == ["cat", "##s", "dog"]


def test_special_tokens_and_gaps_carry_no_weight() -> None:
    assert VOCABULARY.carries_weight.tolist() == [False, True, True, False, True]


def test_the_fingerprint_tells_vocabularies_apart() -> None:
    others = [Vocabulary({"cat": 0, "dog": 1}, []), Vocabulary({"dog": 0, "cat": 1}, []), Vocabulary({"catdog": 0}, [])]
    assert len({other.sha256() for other in others}) == 3
    assert others[0].sha256() == Vocabulary({"dog": 1, "cat": 0}, [1]).sha256()
