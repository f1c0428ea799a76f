"""Readers: every kind of input, every kind of bad line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from spladerunner import InputError
from spladerunner.bulk.duplicates import SeenIds
from spladerunner.bulk.shard import Shard
from spladerunner.readers.files import Input
from spladerunner.readers.records import Fields, Record, parse, read_json_lines, read_parquet, read_text, read_tsv

LINES = b'\xef\xbb\xbf{"_id": "a", "title": "T", "text": "x"}\r\n{"_id": 7, "text": "y"}'
RECORDS = [Record("a", "T x"), Record("7", "y")]


def test_json_lines_plain_gzip_and_zstd(tmp_path: Path) -> None:
    half = len(LINES) // 2
    packed = {
        "c.jsonl": LINES,
        "c.jsonl.gz": gzip.compress(LINES[:half]) + gzip.compress(LINES[half:]),
        "c.jsonl.zst": zstandard.compress(LINES[:half]) + zstandard.compress(LINES[half:]),
    }
    for name, content in packed.items():
        (tmp_path / name).write_bytes(content)
        assert list(read_json_lines(tmp_path / name)) == RECORDS
        assert Input(str(tmp_path / name)).count() == 2
        if name != "c.jsonl":
            (tmp_path / name).write_bytes(content[:-3])
            with pytest.raises(InputError, match="damaged or cut off"):
                list(read_json_lines(tmp_path / name))


def test_tsv_text_and_parquet(tmp_path: Path) -> None:
    (tmp_path / "c.tsv").write_text("1\tone\n2\ttwo\n")
    assert list(read_tsv(tmp_path / "c.tsv")) == [Record("1", "one"), Record("2", "two")]
    (tmp_path / "c.txt").write_text("one\n\ntwo")
    assert list(read_text(tmp_path / "c.txt")) == [Record("1", "one"), Record("2", ""), Record("3", "two")]
    parquet.write_table(pa.table({"n": [1, 2], "body": ["é", "b"]}), tmp_path / "c.parquet")
    assert list(read_parquet(tmp_path / "c.parquet", Fields(id="n", text="body"))) == [
        Record("1", "é"), Record("2", "b")
    ]  # fmt: skip
    assert Input(str(tmp_path / "c.parquet")).count() == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "broken JSON"),
        (b"", "broken JSON"),
        (b"[" * 100_000, "broken JSON"),
        (b"[]", "object"),
        (b'{"_id": "a"}', "no text"),
        (b'{"_id": "a", "text": null}', "no text"),
        (b'{"_id": "a", "text": 3}', "not a string"),
        (b'{"_id": "a", "text": "x", "title": []}', "not a string"),
        (b'{"text": "x"}', "no id"),
        (b'{"_id": true, "text": "x"}', "no id"),
        (b'{"_id": "a", "text": "\\ud800"}', "surrogate"),
        (b'{"_id": "a", "text": "\xff"}', "invalid UTF-8"),
    ],
)
def test_bad_lines(tmp_path: Path, line: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse("jsonl", line, 1)
    (tmp_path / "c.jsonl").write_bytes(LINES + b"\n" + line + b"\n")
    with pytest.raises(InputError, match=rf"c\.jsonl, line 3: .*{reason}"):
        list(read_json_lines(tmp_path / "c.jsonl"))


def test_a_tsv_line_needs_a_tab_and_an_id() -> None:
    for line in (b"one", b"\tone"):
        with pytest.raises(ValueError, match=r"no tab|no id"):
            parse("tsv", line, 1)


def test_a_suffix_that_tells_nothing_is_an_error() -> None:
    for path in ("-", "corpus", "corpus.csv", "corpus.gz"):
        with pytest.raises(InputError, match="--input-format"):
            Input(path)


@given(st.integers(0, 10_000), st.integers(1, 50))
def test_parts_are_contiguous_and_even(total: int, of: int) -> None:
    parts = [Shard(number, of).lines(total) for number in range(1, of + 1)]
    assert [line for part in parts for line in part] == list(range(total))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_ids_are_new_once() -> None:
    seen = SeenIds()
    assert all(seen.add(str(number)) for number in range(20_000))
    assert not any(seen.add(str(number)) for number in range(20_000))


def test_a_parquet_file_of_bytes_and_other_types(tmp_path: Path) -> None:
    import datetime as dt

    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "texts.parquet"
    columns = {"_id": pa.array([b"a", b"b"], pa.binary()), "text": pa.array([b"the cat", b"\xff"])}
    parquet.write_table(pa.table(columns), path)
    records = read_parquet(path)
    assert next(records) == Record("a", "the cat")
    with pytest.raises(InputError, match=r"texts\.parquet, line 2"):
        next(records)
    parquet.write_table(pa.table({"_id": [dt.date(2026, 1, 1)], "text": ["x"]}), path)
    with pytest.raises(InputError, match=r"line 1"):
        list(read_parquet(path))


def test_a_parquet_file_without_the_columns_or_damaged(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "texts.parquet"
    parquet.write_table(pa.table({"number": ["1"], "body": ["x"]}), path)
    with pytest.raises(InputError, match=r"has the columns \['number', 'body'\], and none of"):
        list(read_parquet(path))
    texts = [f"{n} " * 50 for n in range(2000)]
    parquet.write_table(pa.table({"_id": [str(n) for n in range(2000)], "text": texts}), path)
    content = bytearray(path.read_bytes())
    content[100:2000] = bytes(1900)
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        list(read_parquet(path))
