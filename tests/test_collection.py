from __future__ import annotations

from pathlib import Path

import pytest

from spladerunner import CollectionError
from spladerunner.evaluation.collection import Collection
from tests.small_collection import DOCUMENTS, JUDGMENTS, QUERIES, write_beir, write_ms_marco


def test_both_layouts_give_the_same_collection(tmp_path: Path) -> None:
    beir, ms_marco = Collection.read(write_beir(tmp_path / "a")), Collection.read(write_ms_marco(tmp_path / "b"))
    assert beir.documents == ms_marco.documents and beir.documents["d1"].startswith("The Manhattan Project It built")
    assert beir.queries == ms_marco.queries == {query: QUERIES[query] for query in JUDGMENTS}
    assert beir.judgments == ms_marco.judgments == JUDGMENTS
    assert (beir.name, beir.split, ms_marco.name, ms_marco.split) == ("a", "test", "b", "dev.small")
    assert list(map(str, beir.caveats)) == [
        "queries without a judgment in this split, left out: 1",
        "empty documents, which no query finds: 1",
    ]


def test_everything_that_does_not_match_is_counted(tmp_path: Path) -> None:
    folder = write_beir(
        tmp_path / "c",
        queries={"q1": "bomb", "q2": "trout", "q3": " ", "q9": "x"},
        judgments={"q1": {"d1": 1, "gone": 1, "lost": 1}, "q2": {"d3": 0}, "q3": {"d4": 1}, "who": {"d1": 1}},
    )
    with (folder / "qrels" / "test.tsv").open("a") as file:
        file.write("q1\td1\t1\n")
    collection = Collection.read(folder)
    assert list(collection.queries) == ["q1", "q2", "q3"]
    assert [caveat.count for caveat in collection.caveats] == [1, 1, 1, 2, 1, 1, 1]
    for caveat, words in zip(
        collection.caveats,
        (
            "twice",
            "queries that are not",
            "without a judgment",
            "documents that are not",
            "relevant",
            "empty",
            "empty",
        ),
        strict=True,
    ):
        assert words in caveat.what


INVALID = {
    "two grades": ("qrels/test.tsv", "q1\td1\t1", "two grades"),
    "no number": ("qrels/test.tsv", "q1\td9\tgood", "is not a judgment"),
    "huge grade": ("qrels/test.tsv", "q1\td9\t123456789", "is not a judgment"),
    "too few columns": ("qrels/test.tsv", "q1\td9", "is not a judgment"),
    "white space in an id": ("corpus.jsonl", '{"_id": "d 11", "text": "x"}', "white space"),
    "white space in a query's id": ("queries.jsonl", '{"_id": "q 11", "text": "x"}', "white space"),
    "NUL in an id": ("corpus.jsonl", '{"_id": "d\\u0000", "text": "x"}', "NUL"),
    "no integer": ("qrels/test.tsv", "q1\td9\t1.5", "is not a judgment"),
    "digits of another script": ("qrels/test.tsv", "q1\td9\t١", "is not a judgment"),
    "underscore": ("qrels/test.tsv", "q1\td9\t1_0", "is not a judgment"),
}


@pytest.mark.parametrize(("file", "line", "message"), INVALID.values(), ids=INVALID)
def test_an_invalid_line_is_an_error_with_its_place(tmp_path: Path, file: str, line: str, message: str) -> None:
    path = write_beir(tmp_path / "c") / file
    before = path.read_text()
    path.write_text(before + line + "\n")
    with pytest.raises(CollectionError, match=message) as caught:
        Collection.read(tmp_path / "c")
    number = before.count("\n") + 1
    assert str(caught.value).startswith(f"{path}, line {number}")
    assert (caught.value.path, caught.value.line) == (path, number)


@pytest.mark.parametrize(("grade", "value"), [("+1", 1), ("1.0", 1), ("2.", 2), ("-1", -1), ("-0", 0), ("03", 3)])
def test_a_first_line_with_a_number_is_a_judgment(tmp_path: Path, grade: str, value: int) -> None:
    folder = write_beir(tmp_path / "c")
    (folder / "qrels" / "test.tsv").write_text(f"q1\td1\t{grade}\nq2\td3\t1\n")
    assert Collection.read(folder).judgments == {"q1": {"d1": value}, "q2": {"d3": 1}}


@pytest.mark.parametrize("grade", ["1,0", "1.5", "1e0", "0x1"])
def test_a_first_line_that_is_no_header_is_not_skipped(tmp_path: Path, grade: str) -> None:
    folder = write_beir(tmp_path / "c")
    (folder / "qrels" / "test.tsv").write_text(f"q1\td1\t{grade}\nq2\td3\t1\n")
    with pytest.raises(CollectionError, match=r"line 1 is not a judgment"):
        Collection.read(folder)


@pytest.mark.parametrize("identifier", ["", "a b", "a\0b", "\ud800", "a\u2028"])
def test_a_collection_with_ids_that_trec_files_cannot_hold_is_an_error(identifier: str) -> None:
    with pytest.raises(CollectionError, match="cannot hold"):
        Collection("x", "test", {identifier: "text"}, {"q": "text"}, {"q": {identifier: 1}})
    with pytest.raises(CollectionError, match="cannot hold"):
        Collection("x", "test", {"d": "text"}, {identifier: "text"}, {identifier: {"d": 1}})


def test_invalid_utf8_in_the_qrels_is_an_error(tmp_path: Path) -> None:
    path = write_beir(tmp_path / "c") / "qrels" / "test.tsv"
    path.write_bytes(b"q1\td1\t1\nq1\t\xff\t1\n")
    with pytest.raises(CollectionError, match=r"test\.tsv, line 2: invalid UTF-8 at byte 3"):
        Collection.read(tmp_path / "c")


def test_an_empty_collection_and_one_without_judged_queries_are_errors(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="no documents"):
        Collection.read(write_beir(tmp_path / "empty", documents={}))
    with pytest.raises(CollectionError, match="no judged query"):
        Collection.read(write_beir(tmp_path / "unjudged", judgments={"other": {"d1": 1}}))


def test_an_unknown_layout_and_a_missing_split_are_errors_that_list_what_exists(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match=r"corpus\.jsonl .* nor collection\.tsv"):
        Collection.read(tmp_path)
    with pytest.raises(
        CollectionError, match=r"train\.tsv is missing; the splits here are: test\. Choose one with --split"
    ):
        Collection.read(write_beir(tmp_path / "a"), "train")
    with pytest.raises(CollectionError, match=r"qrels\.eval\.tsv is missing; the splits here are: dev\.small"):
        Collection.read(write_ms_marco(tmp_path / "b"), "eval")


def test_byte_order_marks_and_windows_line_ends_are_ignored(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "a")
    for path in (folder / "corpus.jsonl", folder / "queries.jsonl", folder / "qrels" / "test.tsv"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert list(Collection.read(folder).documents) == list(DOCUMENTS)
