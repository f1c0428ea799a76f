from __future__ import annotations

import pytest
from tokenizers import decoders, pre_tokenizers

from spladerunner import SparseVector
from spladerunner.vocabulary import Vocabulary

VOCABULARY = Vocabulary(["[CLS]", "cat", "##s", "", "dog"], [0])


def test_weights_come_heaviest_first_in_the_vocabularys_spelling() -> None:
    weights = VOCABULARY.weights(SparseVector([1, 2, 4], [0.5, 2.0, 1.0]))
    assert list(weights.items()) == [("##s", 2.0), ("dog", 1.0), ("cat", 0.5)]


def test_equal_weights_come_in_the_order_of_the_vocabulary() -> None:
    assert list(VOCABULARY.weights(SparseVector([1, 2, 4], [1, 1, 1]))) == ["cat", "##s", "dog"]


def test_special_tokens_and_gaps_carry_no_weight() -> None:
    assert VOCABULARY.carries_weight.tolist() == [False, True, True, False, True]


def test_the_fingerprint_tells_vocabularies_apart() -> None:
    others = [Vocabulary(["cat", "dog"], []), Vocabulary(["dog", "cat"], []), Vocabulary(["catdog"], [])]
    assert len({other.sha256 for other in others}) == 3
    assert others[0].sha256 == Vocabulary(["cat", "dog"], [1]).sha256


def test_byte_level_tokens_are_spelled_as_the_text_that_they_stand_for() -> None:
    """Against the tokenizers library's own decoder."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["river", " river", "naïve", " données", "数据", "🙂", "<s>", "\n", " \t", "a b"]
    own = ["".join(pre_tokenizers.ByteLevel(False, use_regex=False).pre_tokenize_str(word)[0][0]) for word in words]
    tokens = [*alphabet, *(token for token in own if token not in alphabet)]
    vocabulary = Vocabulary(tokens, [], byte_level=True)
    spelled = dict(zip(tokens, vocabulary.tokens, strict=True))
    decoder = decoders.ByteLevel()
    for token, spelling in spelled.items():
        assert spelling in (token, decoder.decode([token]).replace(" ", "▁", 1))
        assert spelling.isprintable() and " " not in spelling
    assert [spelled[token] for token in own[:6]] == ["river", "▁river", "naïve", "▁données", "数据", "🙂"]
    assert len(set(vocabulary.tokens)) == len(tokens)
    assert vocabulary.sha256 == Vocabulary(tokens, []).sha256


def test_a_character_that_stands_for_no_byte_keeps_its_spelling() -> None:
    """GPT-2's alphabet has 256 characters, the last of them U+0143."""
    tokens = ["\u0143", "\u0144", "a\u0144"]
    assert len(pre_tokenizers.ByteLevel.alphabet()) == 256 and max(pre_tokenizers.ByteLevel.alphabet()) == "\u0143"
    assert Vocabulary(tokens, [], byte_level=True).tokens == tokens  # U+0143 is the soft hyphen, which nobody can read


def test_two_byte_level_tokens_never_get_one_spelling() -> None:
    vocabulary = Vocabulary(["Ġa", "▁a", "a"], [], byte_level=True)
    assert vocabulary.tokens == ["Ġa", "▁a", "a"]


def test_a_vector_comes_back_from_its_weights() -> None:
    vocabulary = Vocabulary(["[CLS]", "river", "bank"], [0])
    vector = SparseVector([1, 2], [0.1, 2.0])
    assert vocabulary.vector(vocabulary.weights(vector)) == vector
    assert vocabulary.vector({}) == SparseVector([], [])
    with pytest.raises(ValueError, match="'mud' is not a token"):
        vocabulary.vector({"mud": 1.0})
