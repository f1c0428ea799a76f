from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from spladerunner import Expander, ModelFilesError, ProviderError, SparseVector, UnknownModelError
from spladerunner.expander import CHARACTERS_TOKENIZED
from spladerunner.inference.session import Session
from spladerunner.inference.tokenizer import TokenizedText, Tokenizer
from tests.small_model import (
    SYMMETRIC,
    TOKENS,
    SmallGraph,
    change_manifest,
    expected_weights,
    records,
    tokenizer,
    write_bundle,
)

TEXTS = [
    "the cat sat on the mat",
    "",
    "naïve dogs running by the river bank",
    "money!",
    "the " * 60,
    "数 😀 אבג \u0000 \ud800",
    "x",
]


def reference(text: str, seed: int, max_length: int) -> dict[str, float]:
    made = tokenizer()
    made.enable_truncation(max_length)
    return expected_weights(SmallGraph(seed=seed).logits(made.encode(text).ids))


def test_documents_and_queries_are_weighed_by_the_published_formula(bundle: Path) -> None:
    expander = Expander(bundle)
    for text in ("the cat sat on the mat", "naïve dogs running", "a b c d e f g h i j k l m n o p q r s"):
        for weights, expected in (
            (expander.expand(text)[0], reference(text, seed=1, max_length=32)),
            (expander.expand_query(text)[0], reference(text, seed=2, max_length=16)),
        ):
            assert weights == pytest.approx(expected, abs=1e-5)
            assert list(weights.values()) == sorted(weights.values(), reverse=True)


def test_a_graph_that_pools_inside_gives_the_same(tmp_path: Path) -> None:
    for name, pools_inside in (("logits", False), ("pooled", True)):
        (tmp_path / name).mkdir()
        SmallGraph().save(tmp_path / name / "model.onnx", pools_inside=pools_inside)
        tokenizer().save(str(tmp_path / name / "tokenizer.json"))
    logits, pooled = (Expander(tmp_path / name, **SYMMETRIC).expand("the cat sat")[0] for name in ("logits", "pooled"))
    assert pooled == pytest.approx(logits, abs=1e-5)


def test_the_vocabulary_names_the_indices_of_a_vector(bundle: Path) -> None:
    expander = Expander(bundle)
    vector = expander.encode("the cat")[0]
    tokens = [expander.vocabulary.tokens[index] for index in vector.indices]
    assert dict(zip(tokens, vector.values.tolist(), strict=True)) == expander.expand("the cat")[0]
    assert expander.name == "small"


def test_a_single_string_counts_as_a_list_of_one(bundle: Path) -> None:
    expander = Expander(bundle)
    assert expander.expand("the cat") == expander.expand(["the cat"])
    assert expander.encode("the cat") == expander.encode(("the cat",)) == list(expander.stream("the cat"))


def test_special_tokens_never_appear(bundle: Path) -> None:
    weights = Expander(bundle).expand(["the cat", "[CLS] [MASK] ꙮ [SEP]"])
    assert all(weights) and not {token for one in weights for token in one} & set(TOKENS[:5])


@pytest.mark.parametrize("empty", ["", "   ", "\n", "\0"])
def test_an_empty_text_is_an_empty_vector(bundle: Path, empty: str) -> None:
    assert Expander(bundle).encode(["the cat", empty])[1] == SparseVector([], [])
    assert Expander(bundle).expand(empty) == [{}]


def test_an_empty_list_is_an_empty_list(bundle: Path) -> None:
    assert Expander(bundle).expand([]) == [] == Expander(bundle).encode(iter([]))


@pytest.mark.parametrize("tokens_in_flight", [1, 40, None])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_text_has_one_vector_whatever_runs_with_it(
    expander: Expander, threads: int, tokens_in_flight: int | None
) -> None:
    """On the embedded int8 pair, whose activations are scaled over all that runs together."""
    alone = [expander.encode(text)[0] for text in TEXTS]
    other = Expander(threads=threads, tokens_in_flight=tokens_in_flight)
    assert other.encode(TEXTS) == alone
    order = random.Random(0).sample(range(len(TEXTS)), len(TEXTS))
    assert other.encode([TEXTS[at] for at in order] * 2) == [alone[at] for at in order] * 2


@pytest.mark.slow
def test_threads_may_share_an_expander(expander: Expander) -> None:
    alone = [expander.encode(text)[0] for text in TEXTS]
    shared = Expander()
    with ThreadPoolExecutor(8) as executor:
        for vectors in executor.map(lambda _: shared.encode(TEXTS), range(24)):
            assert vectors == alone


def test_stream_takes_texts_as_it_needs_them(bundle: Path) -> None:
    taken = 0

    def texts() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield "the cat sat"

    stream = Expander(bundle, threads=2, tokens_in_flight=50).stream(texts())
    vectors = [next(stream) for _ in range(20)]
    assert len(set(vectors)) == 1 and taken <= 20 + 50 // 5 + 1


@pytest.mark.slow
def test_stream_over_100_000_texts_holds_steady(bundle: Path) -> None:
    """Peak memory in a process of its own, after the first tenth and at the end."""
    code = """
import resource, sys
from spladerunner import Expander
texts = (f"the cat sat on the mat {number} " * (number % 5) for number in range(100_000))
for done, vector in enumerate(Expander(sys.argv[1], threads=2).stream(texts)):
    if done == 10_000:
        early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(done + 1, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - early) / 1024)
"""
    done, grown = subprocess.check_output([sys.executable, "-c", code, bundle], text=True).split()
    assert int(done) == 100_000
    assert float(grown) < 8  # MB


def test_max_length_is_the_manifests_and_can_be_overridden(bundle: Path) -> None:
    long = "the cat sat on the mat by the river bank with a dog and money " * 5
    for given, role, expected in [
        (None, "doc", 32),
        (None, "query", 16),
        (8, "doc", 8),
        (8, "query", 8),
        ({"query": 5}, "query", 5),
        ({"query": 5}, "doc", 32),
    ]:
        seed = 1 if role == "doc" else 2
        expander = Expander(bundle, given)  # type: ignore[arg-type]
        weights = expander.expand(long) if role == "doc" else expander.expand_query(long)
        assert weights[0] == pytest.approx(reference(long, seed, expected), abs=1e-5)


@pytest.mark.parametrize("bad", [None, 7, b"bytes", 1.5, ["nested"]])
def test_a_non_string_is_an_error_with_its_index(bundle: Path, bad: Any) -> None:
    expander = Expander(bundle)
    with pytest.raises(TypeError, match=r"texts\[1\] must be a str, not " + type(bad).__name__):
        expander.expand(["the cat", bad])
    with pytest.raises(TypeError, match=r"texts\[1\]"):
        list(expander.stream(iter(["the cat", bad])))


@pytest.mark.parametrize("bad", [None, 7, b"bytes", {"the": "cat"}])
def test_texts_that_are_not_an_iterable_are_an_error(bundle: Path, bad: Any) -> None:
    with pytest.raises(TypeError, match="texts must be a str or an iterable of str, not " + type(bad).__name__):
        Expander(bundle).expand(bad)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"threads": 0}, ValueError, "threads=0 is too small: it must be at least 1"),
        ({"threads": 1.5}, TypeError, "threads must be an int, not 1.5"),
        ({"tokens_in_flight": 0}, ValueError, "tokens_in_flight=0"),
        ({"batch_tokens": 0}, ValueError, "batch_tokens=0"),
        ({"batch_tokens": 9, "tokens_in_flight": 9}, TypeError, "give tokens_in_flight only"),
        ({"max_length": 2}, ValueError, "max_length=2 is too small: it must be at least 3"),
        ({"max_length": True}, TypeError, "True"),
        ({"max_length": 257, "model": "tiny-en"}, ValueError, "max_length=257 is too large: the doc model has 256"),
        ({"max_length": {"title": 8}}, ValueError, "role='title' is neither 'doc' nor 'query'"),
        ({"providers": ["NoSuchExecutionProvider"]}, ProviderError, "NoSuchExecutionProvider.*CPUExecutionProvider"),
        ({"providers": []}, ProviderError, r"\[\]"),
    ],
)
def test_options_out_of_range_are_errors(
    bundle: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Expander(**{"model": bundle, **options})


def test_a_role_that_does_not_exist_is_an_error(bundle: Path) -> None:
    with pytest.raises(ValueError, match="'title' is neither 'doc' nor 'query'"):
        Expander(bundle).encode("the cat", role="title")  # type: ignore[arg-type]


def test_an_unknown_model_is_an_error_that_says_where_the_names_are() -> None:
    with pytest.raises(UnknownModelError, match=r"'tiny-eng'.*Close to it: tiny-en.*`spladerunner models`"):
        Expander("tiny-eng")


def test_explain_gives_the_shared_tokens_and_their_products(bundle: Path) -> None:
    expander = Expander(bundle)
    explanation = expander.explain("river bank", "the cat sat by the river")
    query, document = expander.expand_query("river bank")[0], expander.expand("the cat sat by the river")[0]
    assert {match.token for match in explanation.shared} == query.keys() & document.keys() != set()
    for match in explanation.shared:
        assert match.query_weight == query[match.token] and match.document_weight == document[match.token]
        assert match.product == match.query_weight * match.document_weight
    products = [match.product for match in explanation.shared]
    assert products == sorted(products, reverse=True)
    vectors = expander.encode("river bank", role="query")[0], expander.encode("the cat sat by the river")[0]
    assert explanation.score == pytest.approx(vectors[0].dot(vectors[1]))


@pytest.mark.parametrize("bad", [None, ["a list"], b"bytes"])
def test_explain_and_own_tokens_take_a_single_text(bundle: Path, bad: Any) -> None:
    expander = Expander(bundle)
    for call in (
        lambda: expander.explain(bad, "the cat"),
        lambda: expander.explain("the cat", bad),
        lambda: expander.own_tokens(bad),
    ):
        with pytest.raises(TypeError, match=rf"must be a str, not {type(bad).__name__}"):
            call()


def test_a_relative_folder_is_found_from_another_working_directory(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle.parent)
    expander = Expander(bundle.name)
    monkeypatch.chdir(tmp_path.parent)
    assert expander.expand("the cat") == [pytest.approx(reference("the cat", seed=1, max_length=32), abs=1e-5)]


def test_a_graph_that_gives_no_numbers_is_named(tmp_path: Path) -> None:
    SmallGraph().save(tmp_path / "model.onnx", factor=float("nan"))
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelFilesError, match=r"model\.onnx: .*NaN"):
        Expander(tmp_path, **SYMMETRIC).expand("the cat")


def test_texts_run_at_the_same_time(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of two texts finishes unless both run at once."""
    meeting = threading.Barrier(2, timeout=30)
    run = Session.run

    def wait_and_run(session: Session, text: TokenizedText) -> Any:
        meeting.wait()
        return run(session, text)

    monkeypatch.setattr(Session, "run", wait_and_run)
    assert len(Expander(bundle, threads=2).expand(["the cat", "the dog", "river", "bank"])) == 4


@pytest.mark.parametrize(("length", "at_once"), [(1, 3), (CHARACTERS_TOKENIZED // 2, 2), (CHARACTERS_TOKENIZED + 1, 1)])
def test_texts_of_all_callers_are_tokenized_within_the_bounds_of_the_expander(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, length: int, at_once: int
) -> None:
    """As many as may be tokenized at once meet; one more never comes beside them."""
    lock, meeting, seen = threading.Lock(), threading.Barrier(at_once, timeout=30), list[int]()
    tokenize, inside = Tokenizer.encode, 0

    def counted(self: Tokenizer, text: str, max_length: int) -> TokenizedText:
        nonlocal inside
        with lock:
            inside += 1
            seen.append(inside)
        meeting.wait()
        with lock:
            inside -= 1
        return tokenize(self, text[:3], max_length)

    monkeypatch.setattr(Tokenizer, "encode", counted)
    expander = Expander(bundle, threads=3)
    with ThreadPoolExecutor(6) as callers:
        assert len(list(callers.map(expander.encode, ["x" * length] * 12))) == 12
    assert max(seen) == at_once


def test_texts_before_an_invalid_one_get_their_vectors(bundle: Path) -> None:
    for threads in (1, 2):
        stream = Expander(bundle, threads=threads).stream(iter(["a", "b", "c", None]))  # type: ignore[arg-type]
        assert len([next(stream) for _ in range(3)]) == 3
        with pytest.raises(TypeError, match=r"texts\[3\]"):
            next(stream)


def test_explain_takes_an_empty_text(bundle: Path) -> None:
    explanation = Expander(bundle).explain("", "the cat")
    assert explanation.shared == () and explanation.score == 0


def test_own_tokens_are_those_of_the_text_as_it_is_read(bundle: Path) -> None:
    own = Expander(bundle, 5).own_tokens("the cat sat on the mat")
    assert {"the", "cat", "sat"} <= own and "mat" not in own


def test_a_graph_is_opened_when_its_role_is_first_needed(tmp_path: Path) -> None:
    expander = Expander(write_bundle(tmp_path / "bundle"))
    expander.expand_query("the cat")
    (tmp_path / "bundle" / "query.onnx").unlink()
    assert expander.expand_query("the cat") == [pytest.approx(reference("the cat", seed=2, max_length=16), abs=1e-5)]
    assert expander.expand("the cat") == [pytest.approx(reference("the cat", seed=1, max_length=32), abs=1e-5)]


def test_batch_tokens_is_an_alias_of_tokens_in_flight(bundle: Path) -> None:
    texts = ["the cat sat on the mat"] * 20
    assert len(Expander(bundle, threads=2, batch_tokens=1).encode(texts)) == 20


def test_the_fingerprint_depends_on_all_that_vectors_depend_on(tmp_path: Path) -> None:
    first = write_bundle(tmp_path / "first")
    other = write_bundle(tmp_path / "other")
    SmallGraph(seed=9).save(other / "query.onnx")
    change_manifest(other, files=records(other, "tokenizer.json", "doc.onnx", "query.onnx"))
    found = [
        Expander(first).fingerprint,
        Expander(other).fingerprint,
        Expander(first, 16).fingerprint,
        Expander(first, {"query": 15}).fingerprint,
        Expander(first, {"doc": 15}).fingerprint,
        Expander(first, providers=["CPUExecutionProvider", "CPUExecutionProvider"]).fingerprint,
    ]
    assert len(set(found)) == len(found)
    assert Expander(first, threads=3, tokens_in_flight=100).fingerprint == found[0]
    assert Expander(first, {"doc": 32, "query": 16}).fingerprint == found[0]
    options = {"one": 1, "two": 2}
    both = [
        Expander(first, providers=[("CPUExecutionProvider", {name: options[name] for name in names})])
        for names in (("one", "two"), ("two", "one"))
    ]
    assert both[0].fingerprint == both[1].fingerprint != found[0], "options are a set"


def test_repr_says_what_it_is(bundle: Path) -> None:
    assert repr(Expander(bundle, threads=2)) == "Expander('small', max_length={'doc': 32, 'query': 16}, threads=2)"


def test_a_text_of_a_million_characters_has_the_vector_of_its_beginning(expander: Expander) -> None:
    sentence = "Enriched uranium was made at Oak Ridge, and plutonium at Hanford. "
    assert expander.encode(sentence * 15_000) == expander.encode(sentence * 60)


HARD = {
    "surrogate": "a \ud800 b",
    "NUL": "a\0b",
    "control characters": "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    "ten megabytes": "word " * 2_000_000,
    "emoji": "😀👩‍👩‍👧‍👦🏳️‍🌈" * 10_000,
    "right to left": "مرحبا بالعالم שלום עולם",
    "combining marks": "e" + "\u0301" * 10_000,
    "noncharacters": "\ufffe\uffff\U0010ffff",
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in HARD.items()])
def test_hard_texts_are_handled(expander: Expander, text: str) -> None:
    (weights,) = expander.expand(text)
    assert all(weight > 0 for weight in weights.values())


def test_the_names_of_sentence_transformers(bundle: Path) -> None:
    expander = Expander(bundle)
    texts = ["the cat", "", "river bank"]
    documents, queries = expander.encode_document(texts), expander.encode_query(texts)
    assert documents == expander.encode(texts, role="doc") and queries == expander.encode(texts, role="query")
    assert documents != queries
    scores = expander.similarity(queries, documents)
    expected = [[query.dot(document) for document in documents] for query in queries]
    assert scores.shape == (3, 3) and scores.tolist() == [pytest.approx(row) for row in expected]


def test_a_progress_bar_on_request_counts_the_texts(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expander = Expander(bundle)
    shown = expander.encode((f"the cat {n}" for n in range(7)), show_progress_bar=True)
    assert "7/7" in capsys.readouterr().err
    assert expander.encode_query(["the cat"], show_progress_bar=True) and "1/1" in capsys.readouterr().err
    assert expander.encode_document(["the cat"], show_progress_bar=True) and "1/1" in capsys.readouterr().err
    assert expander.encode([f"the cat {n}" for n in range(7)]) == shown
    assert capsys.readouterr().err == ""
