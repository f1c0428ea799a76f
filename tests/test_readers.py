"""Readers: the rules that encode and eval share, the formats of files, and the shards and ids of a job."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from spladerunner import CollectionError, Expander, InputError, SparseVector
from spladerunner.bulk import Shard
from spladerunner.cli import main as command_line
from spladerunner.evaluation.collection import Collection
from spladerunner.readers import Fields, Input, Record, read_records
from spladerunner.readers.duplicates import SeenIds
from spladerunner.readers.files import _zstd_chunks
from spladerunner.readers.records import parse_line
from spladerunner.readers.vectors import read_vectors
from tests.small_collection import write_beir, write_ms_marco

# A line, and the record that both commands read from it, None for no record, or the start of both commands' error.
JSON_LINES: dict[str, tuple[bytes, tuple[str, str] | str | None]] = {
    "title and text": (b'{"_id": "a", "title": "the", "text": "cat"}', ("a", "the cat")),
    "no title": (b'{"_id": "a", "text": "cat"}', ("a", "cat")),
    "null title": (b'{"_id": "a", "title": null, "text": "cat"}', ("a", "cat")),
    "empty title": (b'{"_id": "a", "title": "", "text": "cat"}', ("a", "cat")),
    "number as title": (b'{"_id": "a", "title": 5, "text": "cat"}', "'title' is an integer, not a string or null"),
    "list as title": (b'{"_id": "a", "title": [], "text": "cat"}', "'title' is an array, not a string or null"),
    "empty text": (b'{"_id": "a", "text": ""}', ("a", "")),
    "no text": (b'{"_id": "a"}', "no text: 'text' is missing or null"),
    "null text": (b'{"_id": "a", "text": null}', "no text: 'text' is missing or null"),
    "number as text": (b'{"_id": "a", "text": 3}', "no text: 'text' is an integer, not a string"),
    "integer id": (b'{"_id": 7, "text": "cat"}', ("7", "cat")),
    "negative id": (b'{"_id": -7, "text": "cat"}', ("-7", "cat")),
    "no id": (b'{"text": "cat"}', "no id: '_id' is missing or null"),
    "empty id": (b'{"_id": "", "text": "cat"}', "no id: '_id' is empty"),
    "boolean id": (b'{"_id": true, "text": "cat"}', "no id: '_id' is a boolean"),
    "float id": (b'{"_id": 1.0, "text": "cat"}', "no id: '_id' is a number"),
    "repeated id": (b'{"_id": "first", "text": "cat"}', "the id 'first' occurred before"),
    "blank line": (b"", None),
    "line of white space": (b" \t\xc2\xa0", None),
    "lone surrogate in a text": (b'{"_id": "a", "text": "\\ud800"}', "a lone surrogate"),
    "lone surrogate in an id": (b'{"_id": "\\udc00", "text": "cat"}', "a lone surrogate"),
    "pair of surrogates": (b'{"_id": "a", "text": "\\ud83d\\ude00"}', ("a", "\U0001f600")),
    "invalid UTF-8": (b'{"_id": "a", "text": "\xff"}', "invalid UTF-8 at byte 22"),
    "byte order mark": (b'\xef\xbb\xbf{"_id": "a", "text": "cat"}', ("a", "cat")),
    "Windows line end": (b'{"_id": "a", "text": "cat"}\r', ("a", "cat")),
    "no JSON": (b'{"_id": "a"', "not valid JSON"),
    "deep JSON": (b"[" * 100_000, "not valid JSON"),
    "JSON list": (b"[]", "an array, not a JSON object"),
}
TSV: dict[str, tuple[bytes, tuple[str, str] | str | None]] = {
    "id and text": (b"7\tthe cat", ("7", "the cat")),
    "tab in a text": (b"a\tthe\tcat", ("a", "the\tcat")),
    "empty text": (b"a\t", ("a", "")),
    "no tab": (b"a cat", "no tab between an id and a text"),
    "empty id": (b"\tcat", "no id: 'id' is empty"),
    "repeated id": (b"first\tcat", "the id 'first' occurred before"),
    "blank line": (b"", None),
    "line of white space": (b"\t ", None),
    "invalid UTF-8": (b"a\t\xff", "invalid UTF-8 at byte 2"),
    "Windows line end": (b"a\tcat\r", ("a", "cat")),
}
RULES = [
    pytest.param(kind, *rule, id=f"{kind}: {name}")
    for kind, rules in (("jsonl", JSON_LINES), ("tsv", TSV))
    for name, rule in rules.items()
]
BEFORE, AFTER = ("first", "river"), ("last", "money")


def write_collection(folder: Path, kind: str, line: bytes) -> Path:
    """A collection whose second of three documents is this line; returns the file of documents."""
    if kind == "jsonl":
        path = write_beir(folder, {}, {"q": "river"}, {"q": {"first": 1}}) / "corpus.jsonl"
        around = [json.dumps({"_id": name, "text": text}).encode() for name, text in (BEFORE, AFTER)]
    else:
        path = write_ms_marco(folder, {"q": "river"}, {"q": {"first": 1}}) / "collection.tsv"
        around = [f"{name}\t{text}".encode() for name, text in (BEFORE, AFTER)]
    path.write_bytes(b"\n".join([around[0], line, around[1], b""]))
    return path


@pytest.fixture
def eval_reads(monkeypatch: pytest.MonkeyPatch) -> list[Collection]:
    """The collections that the command eval has read."""
    found = []
    read = Collection.read

    def spy(*arguments: str | None) -> Collection:
        found.append(read(*arguments))  # type: ignore[arg-type]
        return found[-1]

    monkeypatch.setattr(Collection, "read", spy)
    monkeypatch.setattr("spladerunner.cli.encode.exit_on_signals", lambda: None)
    return found


@pytest.mark.parametrize(("kind", "line", "expected"), RULES)
def test_encode_and_eval_read_by_the_same_rules(
    tmp_path: Path,
    bundle: Path,
    eval_reads: list[Collection],
    capfd: pytest.CaptureFixture[str],
    kind: str,
    line: bytes,
    expected: tuple[str, str] | str | None,
) -> None:
    corpus, vectors = write_collection(tmp_path / "c", kind, line), tmp_path / "vectors.jsonl"
    status = [command_line.main(["encode", str(corpus), "-o", str(vectors), "--model", str(bundle)])]
    encode_error = capfd.readouterr().err
    status.append(command_line.main(["eval", str(corpus.parent), "--model", str(bundle)]))
    eval_error = capfd.readouterr().err
    if isinstance(expected, str):
        assert status == [1, 1] and not vectors.exists()
        for error in (encode_error, eval_error):
            assert error.splitlines()[-1].startswith(f"spladerunner: {corpus}, line 2: {expected}")
        return
    records = dict([BEFORE, expected, AFTER] if expected else [BEFORE, AFTER])
    assert status == [0, 0]
    assert eval_reads[0].documents == records
    rows = [json.loads(row) for row in vectors.read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == list(records)
    expected_vectors = Expander(bundle).expand(list(records.values()))
    assert [row["vector"] for row in rows] == [pytest.approx(vector) for vector in expected_vectors]


@pytest.mark.parametrize(("kind", "line"), [("jsonl", b'{"_id": "d 1", "text": "cat"}'), ("tsv", b"d 1\tcat")])
def test_eval_alone_refuses_ids_that_trec_files_cannot_hold(tmp_path: Path, kind: str, line: bytes) -> None:
    corpus = write_collection(tmp_path / "c", kind, line)
    assert Record("d 1", "cat") in read_records(corpus)
    with pytest.raises(
        CollectionError, match=r"line 2: the id 'd 1' is empty or contains white space, .*which TREC"
    ) as raised:
        Collection.read(corpus.parent)
    assert (raised.value.path, raised.value.line) == (corpus, 2)


def test_queries_are_read_by_the_same_rules_but_without_a_title(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "c")
    queries = folder / "queries.jsonl"
    queries.write_text('\n{"_id": 1, "title": 5, "text": "bomb"}\n{"_id": "q1", "text": "\\ud800"}\n')
    (folder / "qrels" / "test.tsv").write_text("1\td1\t1\n")
    with pytest.raises(InputError, match=r"queries\.jsonl, line 3: a lone surrogate") as raised:
        Collection.read(folder)
    assert (raised.value.path, raised.value.line) == (queries, 3)
    queries.write_text('\n{"_id": 1, "title": 5, "text": "bomb"}\n')
    assert Collection.read(folder).queries == {"1": "bomb"}


LINES = b'\xef\xbb\xbf{"_id": "a", "title": "T", "text": "x"}\r\n\n{"_id": 7, "text": "y"}'
RECORDS = [Record("a", "T x"), Record("7", "y")]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_json_lines_may_be_compressed(tmp_path: Path, suffix: str) -> None:
    compressions: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstandard.compress}
    compress = compressions.get(suffix, bytes)
    path, half = tmp_path / f"c.jsonl{suffix}", len(LINES) // 2
    path.write_bytes(compress(LINES[:half]) + compress(LINES[half:]))
    assert list(read_records(path)) == RECORDS
    assert Input(str(path)).count() == 3
    if suffix:
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(InputError, match="damaged or incomplete") as raised:
            list(read_records(path))
        assert raised.value.path == path


@pytest.mark.slow
def test_a_small_zst_file_is_decompressed_in_small_pieces() -> None:
    content = b"the cat\n" * 20_000_000
    compressed = zstandard.ZstdCompressor(level=19).compress(content)
    assert len(compressed) < 50_000
    pieces = [len(piece) for piece in _zstd_chunks(io.BytesIO(compressed))]
    assert sum(pieces) == len(content) and max(pieces) <= 10_000_000


def test_a_zst_file_may_have_the_largest_window(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=31)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "c.jsonl.zst").write_bytes(compressor.compress(LINES) + compressor.flush())
    assert list(read_records(tmp_path / "c.jsonl.zst")) == RECORDS


def test_an_error_names_some_of_many_fields() -> None:
    row = {"x" * 100: 1, **{f"field{number}": 2 for number in range(30)}}
    with pytest.raises(
        ValueError, match=r"no text: 'text' is missing or null, not a string; the fields are "
    ) as raised:
        parse_line("jsonl", json.dumps({"_id": "a", **row}).encode(), 1)
    named = str(raised.value).partition("; the fields are ")[2].split(", ")
    assert named == ["'_id'", repr("x" * 40), *(f"'field{number}'" for number in range(18)), "…"]


def test_each_line_of_plain_text_is_a_text(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("one\n\ntwo")
    assert list(read_records(tmp_path / "c.txt")) == [Record("1", "one"), Record("2", ""), Record("3", "two")]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_lines_may_end_as_on_windows(tmp_path: Path, suffix: str) -> None:
    """One carriage return belongs to the line end; any other is part of the text."""
    compressions: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstandard.compress}
    compress = compressions.get(suffix, bytes)
    text, table = tmp_path / f"c.txt{suffix}", tmp_path / f"c.tsv{suffix}"
    text.write_bytes(compress(b"one\r\n\r\ntwo\r\r\nthr\ree\r"))
    expected = [Record("1", "one"), Record("2", ""), Record("3", "two\r"), Record("4", "thr\ree")]
    assert list(read_records(text)) == expected
    table.write_bytes(compress(b"a\tone\r\n\r\nb\ttwo\t2\r\n"))
    assert list(read_records(table)) == [Record("a", "one"), Record("b", "two\t2")]


def test_the_kind_may_be_given(tmp_path: Path) -> None:
    (tmp_path / "c.tsv").write_text("1\tone\n")
    assert list(read_records(tmp_path / "c.tsv")) == [Record("1", "one")]
    assert list(read_records(tmp_path / "c.tsv", "text")) == [Record("1", "1\tone")]
    shutil.copy(tmp_path / "c.tsv", tmp_path / "c")
    assert list(read_records(tmp_path / "c", kind="tsv")) == [Record("1", "one")]


def test_the_fields_may_have_other_names(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"n": [1, 2], "body": ["é", "b"]}), tmp_path / "c.parquet")
    fields = Fields(id="n", text="body")
    assert list(read_records(tmp_path / "c.parquet", fields=fields)) == [Record("1", "é"), Record("2", "b")]
    assert Input(str(tmp_path / "c.parquet")).count() == 2
    (tmp_path / "c.jsonl").write_text('{"n": 1, "head": "the", "body": "cat", "title": 5}')
    assert list(read_records(tmp_path / "c.jsonl", fields=Fields("n", "head", "body"))) == [Record("1", "the cat")]


def test_a_bad_line_is_an_error_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(LINES + b"\n{\n")
    with pytest.raises(InputError, match=r"c\.jsonl, line 4: not valid JSON: .*Fix the line") as raised:
        list(read_records(path))
    assert (raised.value.path, raised.value.line) == (path, 4)


@pytest.mark.parametrize("value", [[[]], {"a": 1}, 1.5, True, None])
def test_a_message_names_the_type_of_a_value_and_not_the_value(value: object) -> None:
    with pytest.raises(
        ValueError, match=r"is (an array|an object|a number|a boolean|missing or null), not a string or an integer$"
    ):
        parse_line("jsonl", json.dumps({"_id": value, "text": "x"}).encode(), 1)


@pytest.mark.parametrize("path", ["-", "corpus", "corpus.csv", "corpus.gz"])
def test_an_unknown_suffix_is_an_error(path: str) -> None:
    with pytest.raises(InputError, match=r"no suffix that says its kind\. Give one with --input-format") as raised:
        Input(path)
    assert raised.value.path == Path(path)


def test_an_unknown_kind_and_compressed_parquet_are_errors() -> None:
    with pytest.raises(InputError, match="unknown kind 'csv'"):
        Input("corpus.csv", "csv")
    for path in ("-", "corpus.parquet.gz"):
        with pytest.raises(InputError, match="only from an uncompressed file"):
            Input(path, "parquet")


def test_parquet_may_hold_bytes_but_no_other_types(tmp_path: Path) -> None:
    path = tmp_path / "texts.parquet"
    columns = {"_id": pa.array([b"a", b"b"], pa.binary()), "text": pa.array([b"the cat", b"\xff"])}
    parquet.write_table(pa.table(columns), path)
    records = read_records(path)
    assert next(records) == Record("a", "the cat")
    with pytest.raises(InputError, match=r"texts\.parquet, line 2"):
        next(records)
    parquet.write_table(pa.table({"_id": [dt.date(2026, 1, 1)], "text": ["x"]}), path)
    with pytest.raises(InputError, match=r"line 1"):
        list(read_records(path))


def test_parquet_without_the_columns_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "texts.parquet"
    parquet.write_table(pa.table({"number": ["1"], "body": ["x"]}), path)
    with pytest.raises(InputError, match=r"has the columns \['number', 'body'\], but none of"):
        list(read_records(path))
    texts = [f"{n} " * 50 for n in range(2000)]
    parquet.write_table(pa.table({"_id": [str(n) for n in range(2000)], "text": texts}), path)
    content = bytearray(path.read_bytes())
    content[100:2000] = bytes(1900)
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        list(read_records(path))
    path.write_bytes(b"id\ttext\n")
    with pytest.raises(InputError, match="is not a Parquet file"):
        list(read_records(path))


@given(st.integers(0, 10_000), st.integers(1, 50))
def test_shards_are_contiguous_and_equal(total: int, of: int) -> None:
    shards = [Shard(number, of).lines(total) for number in range(1, of + 1)]
    assert [line for shard in shards for line in shard] == list(range(total))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "-1/2"])
def test_a_shard_that_does_not_exist_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"there is no shard|is not a shard"):
        Shard.parse(text)


def test_an_id_is_new_once() -> None:
    seen = SeenIds()
    assert all(seen.add(str(number)) for number in range(20_000))
    assert not any(seen.add(str(number)) for number in range(20_000))


BY_TOKEN = {"text": "a bank", "vector": {"bank": 1.5, "river": 2}}
BY_INDEX = {"text": "a bank", "indices": [7, 3], "values": [1, 2.5]}


def test_vectors_are_read_by_token_or_by_index(tmp_path: Path) -> None:
    path = tmp_path / "vectors.jsonl.gz"
    rows = [BY_TOKEN, BY_INDEX, {"_id": "d1", "vector": {"indices": [2], "values": [0.5]}}, {"vector": {"indices": 1}}]
    path.write_bytes(gzip.compress("\n\n".join(map(json.dumps, rows)).encode()))
    found = list(read_vectors(path))
    assert [line.vector for line in found] == [
        {"bank": 1.5, "river": 2},
        SparseVector([3, 7], [2.5, 1]),
        SparseVector([2], [0.5]),
        {"indices": 1},  # a token
    ]
    assert [line.text for line in found] == ["a bank", "a bank", None, None]
    assert [line.number for line in found] == [1, 3, 5, 7]


@pytest.mark.slow
def test_vectors_that_encode_wrote_are_read(tmp_path: Path, expander: Expander) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the cat\natomic bomb\n")
    for format in ("json", "indices", "elasticsearch"):
        output = tmp_path / f"{format}.jsonl"
        assert command_line.main(["encode", str(corpus), "-o", str(output), "--format", format]) == 0
        vectors = [line.vector for line in read_vectors(output)]
        by_index = [each if isinstance(each, SparseVector) else expander.vocabulary.vector(each) for each in vectors]
        assert by_index == expander.encode(["the cat", "atomic bomb"])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"[1]", "not a JSON object"),
        (b"{", "not valid JSON"),
        (b"[" * 10**5, "not valid JSON"),
        (b"\xff", "invalid UTF-8 at byte 0"),
        (b'{"text": "a"}', "no vector: it has neither 'vector' nor 'indices' and 'values'"),
        (b'{"vector": [1]}', "its 'vector' is not an object"),
        (b'{"text": 1, "vector": {}}', "its 'text' is not a string"),
        (b'{"vector": {"a": "1"}}', "the weight of 'a' is not a finite number"),
        (b'{"vector": {"a": true}}', "the weight of 'a' is not a finite number"),
        (b'{"vector": {"a": NaN}}', "the weight of 'a' is not a finite number"),
        (b'{"vector": {"a": 1e39}}', "the weight of 'a' is not a finite number"),
        (b'{"indices": [1], "values": [1, 2]}', "it has 1 indices and 2 values"),
        (b'{"indices": [1, 1], "values": [1, 2]}', "indices must be strictly ascending"),
        (b'{"indices": [-1], "values": [1]}', "indices must lie in 0 to 2147483647"),
        (b'{"indices": [1.0], "values": [1]}', "an index is not an integer"),
        (b'{"indices": [1], "values": [Infinity]}', "a value is not a finite number"),
    ],
)
def test_a_bad_vector_is_an_error_with_its_line(tmp_path: Path, line: bytes, problem: str) -> None:
    path = tmp_path / "vectors.jsonl"
    path.write_bytes(json.dumps(BY_TOKEN).encode() + b"\n\n" + line + b"\n")
    with pytest.raises(InputError) as caught:
        list(read_vectors(path))
    assert str(caught.value).startswith(f"{path}, line 3: {problem}")
    assert (caught.value.path, caught.value.line) == (path, 3)


def test_a_file_without_vectors_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "vectors.jsonl"
    path.write_text("\n")
    with pytest.raises(InputError, match="has no vectors"):
        list(read_vectors(path))
