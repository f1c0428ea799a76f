from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spladerunner import Expander, MissingExtraError, SparseVector, formats
from spladerunner.formats import ciff
from spladerunner.formats.by_token import LEAST_FEATURE
from spladerunner.vocabulary import Vocabulary

HOSTILE = [".", "%", "%2E", "%25", "u.s", "a b", "a\u2003b", "\u00a0", "cells", "blocks", "indices", "##ing", "数"]
WORDS = ["[PAD]", *HOSTILE, *(f"word{at}" for at in range(30))]
VOCABULARY = Vocabulary(WORDS, [0])
SIZE = len(VOCABULARY)

float32s = st.floats(float(np.float32(1e-30)), float(np.float32(1e30)), width=32)
weights = st.floats(0.0078125, 100, width=32)


def vectors_of(weights: st.SearchStrategy[float]) -> st.SearchStrategy[SparseVector]:
    return st.dictionaries(st.integers(1, SIZE - 1), weights, max_size=SIZE).map(
        lambda entries: SparseVector(np.array(sorted(entries), np.int32), [entries[at] for at in sorted(entries)])
    )


exact_vectors = vectors_of(float32s)
vectors = vectors_of(weights)
ids = st.text(min_size=1).filter(lambda text: "\0" not in text and text.isprintable())


def dense(vector: SparseVector) -> np.ndarray:
    array = np.zeros(SIZE, np.float32)
    array[vector.indices] = vector.values
    return array


@pytest.mark.slow
@given(exact_vectors)
def test_inverses_return_the_same_vector_bit_for_bit_also_through_json(vector: SparseVector) -> None:
    def through_json(value: Any) -> Any:
        return json.loads(json.dumps(value))

    assert formats.from_tokens(through_json(formats.tokens(vector, VOCABULARY)), VOCABULARY) == vector
    assert formats.from_indices(through_json(formats.indices(vector))) == vector
    assert formats.from_indices(through_json(formats.qdrant(vector))) == vector
    assert formats.from_features(through_json(formats.elasticsearch(vector, VOCABULARY)), VOCABULARY) == vector
    assert formats.from_features(through_json(formats.opensearch(vector, VOCABULARY)), VOCABULARY) == vector
    assert formats.from_milvus(formats.milvus(vector)) == vector
    assert formats.from_milvus(formats.milvus_query(vector)) == vector
    assert formats.from_milvus(through_json(formats.milvus(vector))) == vector
    assert formats.from_pgvector(formats.pgvector(vector, SIZE)) == vector
    assert formats.from_vespa(through_json(formats.vespa(vector, VOCABULARY)), VOCABULARY) == vector
    assert formats.from_tokens(through_json(formats.seismic(vector, VOCABULARY)), VOCABULARY) == vector


@pytest.mark.slow
@given(st.lists(exact_vectors, max_size=5))
def test_csr_equals_the_dense_matrix_and_inverts(vectors: list[SparseVector]) -> None:
    matrix = formats.csr(iter(vectors), SIZE)
    assert matrix.shape == (len(vectors), SIZE) and matrix.dtype == np.float32
    assert np.array_equal(matrix.toarray(), np.array([dense(vector) for vector in vectors]).reshape(-1, SIZE))
    assert formats.from_csr(matrix) == vectors
    assert formats.from_csr(scipy.sparse.coo_matrix(matrix)) == vectors
    assert formats.from_csr(scipy.sparse.csc_array(matrix.toarray())) == vectors


def test_zeros_that_a_matrix_stores_are_no_weights() -> None:
    stored = scipy.sparse.csr_matrix(([0.0, 2.0, 0.0], ([0, 0, 1], [1, 3, 2])), shape=(2, SIZE), dtype=np.float32)
    assert stored.nnz == 3
    assert formats.from_csr(stored) == [SparseVector([3], [2.0]), SparseVector([], [])]
    assert stored.nnz == 3  # the caller's matrix is left as it is


@given(vectors, st.floats(1, 1000))
def test_impacts_are_rounded_products_and_lose_at_most_half_a_step(vector: SparseVector, scale: float) -> None:
    quantized = formats.impacts(vector, scale)
    weight_at = dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))
    expected = {at: round(weight * scale) for at, weight in weight_at.items() if round(weight * scale)}
    assert dict(zip(quantized.indices.tolist(), quantized.impacts.tolist(), strict=True)) == expected
    loss = np.abs(dense(formats.from_impacts(quantized)).astype(np.float64) - dense(vector))
    assert loss.max() <= 0.5 / scale * 1.001 + 1e-5


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf")])
def test_an_invalid_scale_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="scale="):
        formats.impacts(SparseVector([1], [1.0]), scale)


def test_impacts_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        formats.impacts(SparseVector([1], [1e9]), 100)
    with pytest.raises(ValueError, match="do not fit"):
        formats.impacts(SparseVector([1], [-1.0]), 100)


@pytest.mark.slow
@given(st.lists(vectors, min_size=1), st.integers(2, 16))
def test_impact_scale_uses_the_full_range_of_the_bits(vectors: list[SparseVector], bits: int) -> None:
    if not any(map(len, vectors)):
        with pytest.raises(ValueError, match="at least one"):
            formats.impact_scale(vectors, bits)
        return
    scale = formats.impact_scale(vectors, bits)
    assert max(formats.impacts(v, scale).impacts.max(initial=0) for v in vectors) == 2**bits - 1


def test_impacts_of_real_vectors_change_scores_by_less_than_one_percent(expander: Expander) -> None:
    """Scale 100 changes a weight by at most 0.005."""
    text = "The Manhattan Project and its atomic bomb helped bring an end to World War II."
    (document,), (query,) = expander.encode(text), expander.encode("who built the nuclear bomb", role="query")
    returned = [formats.from_impacts(formats.impacts(vector)) for vector in (query, document)]
    assert returned[0].dot(returned[1]) == pytest.approx(query.dot(document), rel=0.01)
    assert returned[0].dot(returned[1]) != query.dot(document)


@pytest.mark.slow
@given(ids, vectors)
def test_anserini_documents_invert_to_rounded_vectors(name: str, vector: SparseVector) -> None:
    document = json.loads(json.dumps(formats.anserini(name, vector, VOCABULARY, 50)))
    assert formats.from_anserini(document, VOCABULARY, 50) == (name, formats.from_impacts(formats.impacts(vector, 50)))
    assert all(isinstance(impact, int) and impact > 0 for impact in document["vector"].values())
    assert not any(set(term) & set(" \t\u2003\u00a0") for term in document["vector"])


@pytest.mark.slow
@given(vectors)
def test_anserini_topics_repeat_each_token_by_its_impact(vector: SparseVector) -> None:
    line, quantized = formats.anserini_topic("q1", vector, VOCABULARY, 10), formats.impacts(vector, 10)
    assert line.startswith("q1\t") and len(line.split()) == 1 + max(quantized.impacts.sum(), 1)
    assert formats.from_anserini_topic(line, VOCABULARY, 10) == ("q1", formats.from_impacts(quantized))


def test_an_empty_topic_gets_a_term_that_no_token_has() -> None:
    assert formats.anserini_topic("q1", SparseVector([], []), VOCABULARY) == "q1\t%"
    percent = SparseVector([WORDS.index("%")], [0.01])
    assert formats.anserini_topic("q1", percent, VOCABULARY) == "q1\t%25"
    assert formats.from_anserini_topic("q1\t%", VOCABULARY) == ("q1", SparseVector([], []))


@pytest.mark.parametrize("name", ["", "a b", "a\tb"])
def test_a_topic_id_with_white_space_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="topic id"):
        formats.anserini_topic(name, SparseVector([1], [1.0]), VOCABULARY)


def test_tokens_too_long_for_an_engine_are_refused() -> None:
    vocabulary = Vocabulary(["x" * 101, "x" * 256, "x" * 100, "x" * 255], [])
    assert len(formats.anserini("a", SparseVector([3], [1.0]), vocabulary)["vector"]) == 1
    assert len(formats.seismic(SparseVector([2], [1.0]), vocabulary)) == 1
    formats.anserini("a", SparseVector([0], [1.0]), vocabulary)
    with pytest.raises(ValueError, match="255 characters"):
        formats.anserini("a", SparseVector([1], [1.0]), vocabulary)
    with pytest.raises(ValueError, match="100 characters"):
        formats.seismic(SparseVector([0], [1.0]), vocabulary)


@pytest.mark.slow
@given(exact_vectors)
def test_features_have_no_dot_and_are_unique(vector: SparseVector) -> None:
    features = formats.elasticsearch(vector, VOCABULARY)
    assert len(features) == len(vector) and not any("." in feature for feature in features)
    assert list(features.values()) == sorted(features.values(), reverse=True)


def test_features_escape_dots_and_percent_signs() -> None:
    vector = SparseVector(sorted(map(WORDS.index, ("%2E", "%25", "u.s"))), [1.0, 3.0, 2.0])
    assert list(formats.elasticsearch(vector, VOCABULARY)) == ["%2525", "u%2Es", "%252E"]


@pytest.mark.parametrize("engine", [formats.elasticsearch, formats.opensearch])
def test_subnormal_weights_are_dropped_with_a_warning(engine: Any) -> None:
    vector = SparseVector([1, 2, 3], [1e-40, LEAST_FEATURE, 0.0])
    with pytest.warns(UserWarning, match="1 of 2 are dropped"):
        assert list(engine(vector, VOCABULARY).values()) == [pytest.approx(LEAST_FEATURE)]


@pytest.mark.parametrize(
    "convert",
    [
        lambda vector: formats.elasticsearch(vector, VOCABULARY),
        lambda vector: formats.opensearch(vector, VOCABULARY),
        lambda vector: formats.seismic(vector, VOCABULARY),
        formats.milvus,
    ],
)
def test_negative_weights_are_refused_if_the_engine_refuses_them(convert: Any) -> None:
    with pytest.raises(ValueError, match=r"index 2 has -0\.5"):
        convert(SparseVector([1, 2], [1.0, -0.5]))


@pytest.mark.parametrize("vector", [SparseVector([], []), SparseVector([3], [0.0])])
def test_milvus_row_of_an_empty_vector_has_an_entry_that_matches_no_query(vector: SparseVector) -> None:
    row = formats.milvus(vector)
    query = formats.milvus_query(vector)
    assert len(row) == len(query) == 1 and not row.keys() & query.keys()
    assert min(*row, *query) > np.iinfo(np.int32).max and max(*row, *query) < 2**32 - 1
    assert formats.from_milvus(row) == formats.from_milvus(query) == SparseVector([], [])


@pytest.mark.parametrize("most", [0, 3, 16_000])
def test_pgvector_keeps_the_heaviest_weights_and_warns_of_the_others(most: int) -> None:
    vector = SparseVector(np.arange(16_002), np.linspace(0.5, 2, 16_002))
    with pytest.warns(UserWarning, match=f"of 16002, the {16_002 - most} lightest are dropped") as seen:
        text = formats.pgvector(vector, 30_522, most)
    assert formats.from_pgvector(text) == vector.top(most)
    assert seen[0].filename == __file__


def test_pgvector_indices_start_at_one() -> None:
    assert formats.pgvector(SparseVector([0, 4], [0.5, 2.0]), 5) == "{1:0.5,5:2.0}/5"
    assert formats.pgvector(SparseVector([], []), 5) == "{}/5"
    assert formats.from_pgvector("{1:0.5, 5:2}/5") == SparseVector([0, 4], [0.5, 2.0])


def test_pgvector_refuses_invalid_sizes_and_texts() -> None:
    with pytest.raises(ValueError, match="index 5 is beyond"):
        formats.pgvector(SparseVector([5], [1.0]), 5)
    for size in (0, 1_000_000_001):
        with pytest.raises(ValueError, match="dimensions"):
            formats.pgvector(SparseVector([], []), size)
    with pytest.raises(ValueError, match="not a sparsevec"):
        formats.from_pgvector("[1,2,3]")


def test_lucene_queries_keep_1024_tokens_and_warn_of_the_others() -> None:
    vocabulary = Vocabulary([f"t{at}" for at in range(1030)], [])
    vector = SparseVector(np.arange(1030), np.linspace(1, 2, 1030))
    for query in (
        lambda: formats.elasticsearch_query(vector, vocabulary, "f")["sparse_vector"]["query_vector"],
        lambda: formats.rank_features_query(vector, vocabulary, "f")["bool"]["should"],
        lambda: formats.opensearch_query(vector, vocabulary, "f")["neural_sparse"]["f"]["query_tokens"],
        lambda: set(formats.anserini_topic("q", vector, vocabulary, 1).split("\t")[1].split()),
    ):
        with pytest.warns(UserWarning, match="of 1030, the 6 lightest are dropped"):
            assert len(query()) == 1024


def test_an_empty_query_matches_nothing() -> None:
    for build_query in (formats.elasticsearch_query, formats.rank_features_query, formats.opensearch_query):
        assert build_query(SparseVector([], []), VOCABULARY, "f") == {"match_none": {}}


def test_weights_are_written_as_the_shortest_decimals() -> None:
    vector = SparseVector([1, 2], [0.1, 1 / 3])
    assert formats.indices(vector) == {"indices": [1, 2], "values": [0.1, 0.33333334]}
    assert formats.pgvector(vector, 5) == "{2:0.1,3:0.33333334}/5"


def test_tokens_of_another_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="'zebra' is not a token"):
        formats.from_tokens({"zebra": 1.0}, VOCABULARY)


def test_a_vocabulary_inverts_its_own_weights(expander: Expander) -> None:
    for vector in expander.encode(["The U.S. spent 3.5 % of it", ""]):
        assert expander.vocabulary.vector(expander.vocabulary.weights(vector)) == vector


def test_qdrant_ids_are_stable_uuids() -> None:
    assert formats.qdrant_id("4983") == "06efdb2c-93c3-5a74-a730-b99df45fbe31"
    assert formats.qdrant_id("4984") != formats.qdrant_id("4983")


# Lines


@pytest.mark.slow
@given(ids, vectors)
def test_every_format_writes_one_line(name: str, vector: SparseVector) -> None:
    for line in formats.FORMATS.values():
        if line is formats.FORMATS["anserini-topics"] and any(map(str.isspace, name)):
            continue
        assert len(line(name, vector, VOCABULARY).split("\n")) == 1


@pytest.mark.slow
@given(ids, vectors)
def test_lines_have_the_id_and_the_vector(name: str, vector: SparseVector) -> None:
    def written(format_name: str) -> Any:
        return json.loads(formats.FORMATS[format_name](name, vector, VOCABULARY))

    assert written("json") == {"id": name, "vector": formats.tokens(vector, VOCABULARY)}
    assert written("indices") == {"id": name, **formats.indices(vector)}
    assert written("anserini") == formats.anserini(name, vector, VOCABULARY)
    for engine in ("elasticsearch", "elasticsearch-rank-features", "opensearch"):
        assert written(engine) == {"_id": name, "vector": formats.elasticsearch(vector, VOCABULARY)}
    point = written("qdrant")
    assert (point["id"], point["payload"]) == (formats.qdrant_id(name), {"id": name})
    assert formats.from_indices(point["vector"]["splade"]) == vector
    row = written("milvus")
    assert row["id"] == name and formats.from_milvus(row["vector"]) == vector
    put = written("vespa")
    assert put["put"] == f"id:splade:doc::{name}" and put["fields"]["id"] == name
    assert formats.from_vespa(put["fields"]["vector"], VOCABULARY) == vector
    assert written("seismic") == {"id": name, "vector": formats.seismic(vector, VOCABULARY)}


def test_the_default_line_is_heaviest_first_and_not_escaped() -> None:
    vector = SparseVector([WORDS.index("数"), WORDS.index("word1")], [1.0, 2.0])
    assert formats.FORMATS[formats.DEFAULT]("naïve", vector, VOCABULARY) == (
        '{"id": "naïve", "vector": {"word1": 2.0, "数": 1.0}}'
    )


def test_a_copy_row_escapes_its_id() -> None:
    line = formats.FORMATS["pgvector"]("a\tb\\c\nd", SparseVector([], []), VOCABULARY)
    assert line == f"a\\tb\\\\c\\nd\t{{}}/{SIZE}"


# CIFF


@pytest.mark.slow
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(ids, vectors, max_size=6))
def test_ciff_inverts_to_the_rounded_collection(tmp_path: Path, documents: dict[str, SparseVector]) -> None:
    path = tmp_path / "collection.ciff"
    formats.write_ciff(path, documents.items(), VOCABULARY, 50)
    expected = [(name, formats.from_impacts(formats.impacts(vector, 50))) for name, vector in documents.items()]
    assert formats.read_ciff(path, VOCABULARY) == expected
    assert formats.read_ciff(path, VOCABULARY, 50) == expected
    assert list(tmp_path.iterdir()) == [path]


def test_ciff_bytes_follow_the_specification(tmp_path: Path) -> None:
    vocabulary = Vocabulary(["b", "a", "é"], [])
    documents = [("d0", SparseVector([0], [2.0])), ("d1", SparseVector([], [])), ("d2", SparseVector([0, 1], [1, 3]))]
    formats.write_ciff(tmp_path / "x.ciff", documents, vocabulary, scale=1)
    description = "spladerunner: tf is round(weight × scale), scale=1.0".encode()
    header = b"".join(
        [
            b"\x08\x01\x10\x02\x18\x03\x20\x02\x28\x03\x30\x06",  # version 1, 2 lists, 3 records, 2, 3, 6 terms
            b"\x39\x00\x00\x00\x00\x00\x00\x00\x40",  # an average length of 2.0
            b"\x42" + bytes([len(description)]) + description,
        ]
    )
    list_a = b"\x0a\x01a\x10\x01\x18\x03" + b"\x22\x04\x08\x02\x10\x03"  # df 1, cf 3; document 2, tf 3
    list_b = b"\x0a\x01b\x10\x02\x18\x03" + b"\x22\x02\x10\x02" + b"\x22\x04\x08\x02\x10\x01"  # a gap of 2
    records = [b"\x12\x02d0\x18\x02", b"\x08\x01\x12\x02d1", b"\x08\x02\x12\x02d2\x18\x04"]
    expected = b"".join(bytes([len(message)]) + message for message in (header, list_a, list_b, *records))
    assert (tmp_path / "x.ciff").read_bytes() == expected


def test_ciff_refuses_a_repeated_id_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'a' occurs 2 times"):
        formats.write_ciff(tmp_path / "x.ciff", [("a", SparseVector([], []))] * 2, VOCABULARY)
    assert list(tmp_path.iterdir()) == []


def test_ciff_truncated_at_any_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.ciff"
    formats.write_ciff(path, [("a", SparseVector([1, 2], [1, 2])), ("b", SparseVector([2], [1.0]))], VOCABULARY)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"x\.ciff"):
            formats.read_ciff(path, VOCABULARY)


def test_ciff_of_another_program_needs_a_scale(tmp_path: Path) -> None:
    path = tmp_path / "x.ciff"
    header = b"\x08\x01\x42\x05other"
    path.write_bytes(bytes([len(header)]) + header)
    with pytest.raises(ValueError, match="pass scale"):
        formats.read_ciff(path, VOCABULARY)
    assert formats.read_ciff(path, VOCABULARY, 1) == []
    path.write_bytes(b"\x02\x08\x02")
    with pytest.raises(ValueError, match="says 2"):
        formats.read_ciff(path, VOCABULARY, 1)


def test_no_format_warns_about_a_real_vector(expander: Expander) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (vector,) = expander.encode("The U.S. spent 3.5 % of it")
        for line in formats.FORMATS.values():
            line("1", vector, expander.vocabulary)


# Extras


def test_importing_formats_loads_no_extra() -> None:
    code = "import sys; from spladerunner import formats; print({'scipy', 'google.protobuf'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_a_missing_extra_is_named_in_the_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    ciff._protobuf.cache_clear()
    with pytest.raises(MissingExtraError, match=r"pip install 'spladerunner\[formats\]'"):
        formats.csr([], SIZE)
    with pytest.raises(MissingExtraError, match=r"pip install 'spladerunner\[formats\]'"):
        formats.write_ciff(tmp_path / "x.ciff", [], VOCABULARY)
    assert list(tmp_path.iterdir()) == []
