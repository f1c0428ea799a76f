from __future__ import annotations

from pathlib import Path

import pytest

from spladerunner import CollectionError
from spladerunner.evaluation.collection import Collection
from tests.small_collection import DOCUMENTS, JUDGEMENTS, QUERIES, write_beir, write_ms_marco


def test_both_layouts_give_the_same_collection(tmp_path: Path) -> None:
    beir, ms_marco = Collection.read(write_beir(tmp_path / "a")), Collection.read(write_ms_marco(tmp_path / "b"))
    assert beir.documents == ms_marco.documents and beir.documents["d1"].startswith("The Manhattan Project It built")
    assert beir.queries == ms_marco.queries == {query: QUERIES[query] for query in JUDGEMENTS}
    assert beir.judgements == ms_marco.judgements == JUDGEMENTS
    assert (beir.name, beir.split, ms_marco.name, ms_marco.split) == ("a", "test", "b", "dev.small")
    assert list(map(str, beir.warnings)) == [
        "queries without a judgement in this split, left out: 1",
        "empty documents, which nothing finds: 1",
    ]


def test_everything_that_does_not_fit_is_counted(tmp_path: Path) -> None:
    folder = write_beir(
        tmp_path / "c",
        queries={"q1": "bomb", "q2": "trout", "q3": " ", "q9": "x"},
        judgements={"q1": {"d1": 1, "gone": 1, "lost": 1}, "q2": {"d3": 0}, "q3": {"d4": 1}, "who": {"d1": 1}},
    )
    with (folder / "qrels" / "test.tsv").open("a") as file:
        file.write("q1\td1\t1\n")
    collection = Collection.read(folder)
    assert list(collection.queries) == ["q1", "q2", "q3"]
    assert [finding.count for finding in collection.warnings] == [1, 1, 1, 2, 1, 1, 1]
    for finding, words in zip(
        collection.warnings,
        (
            "twice",
            "queries that are not",
            "without a judgement",
            "documents that are not",
            "relevant",
            "empty",
            "empty",
        ),
        strict=True,
    ):
        assert words in finding.what


BROKEN = {
    "duplicate document": ("corpus.jsonl", '{"_id": "d1", "text": "again"}', "'d1' is there twice"),
    "duplicate query": ("queries.jsonl", '{"_id": "q1", "text": "again"}', "'q1' is there twice"),
    "two grades": ("qrels/test.tsv", "q1\td1\t1", "two grades"),
    "no number": ("qrels/test.tsv", "q1\td9\tgood", "a grade belong"),
    "huge grade": ("qrels/test.tsv", "q1\td9\t123456789", "a grade belong"),
    "too few columns": ("qrels/test.tsv", "q1\td9", "a grade belong"),
    "no JSON": ("corpus.jsonl", '{"_id": "d11"', "no JSON"),
    "no text": ("corpus.jsonl", '{"_id": "d11"}', "both strings"),
    "a number for an id": ("queries.jsonl", '{"_id": 7, "text": "x"}', "both strings"),
    "white space in an id": ("corpus.jsonl", '{"_id": "d 11", "text": "x"}', "white space"),
    "no id": ("corpus.jsonl", '{"_id": "", "text": "x"}', "is empty"),
}


@pytest.mark.parametrize(("file", "line", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_line_is_an_error_with_its_number(tmp_path: Path, file: str, line: str, message: str) -> None:
    path = write_beir(tmp_path / "c") / file
    before = path.read_text()
    path.write_text(before + line + "\n")
    with pytest.raises(CollectionError, match=message) as caught:
        Collection.read(tmp_path / "c")
    assert f"{path}:{before.count(chr(10)) + 1}" in str(caught.value)


def test_bytes_that_are_no_utf8_and_lines_without_a_tab_are_errors(tmp_path: Path) -> None:
    write_ms_marco(tmp_path / "m")
    (tmp_path / "m" / "collection.tsv").write_bytes(b"d1\tfine\nd2\t\xff\n")
    with pytest.raises(CollectionError, match=r"collection\.tsv:2 is no UTF-8"):
        Collection.read(tmp_path / "m")
    (tmp_path / "m" / "collection.tsv").write_text("d1\tfine\nd2 no tab\n")
    with pytest.raises(CollectionError, match=r"collection\.tsv:2 has no tab"):
        Collection.read(tmp_path / "m")


def test_an_empty_collection_and_one_without_judged_queries_are_errors(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="no documents"):
        Collection.read(write_beir(tmp_path / "empty", documents={}))
    with pytest.raises(CollectionError, match="no judged query"):
        Collection.read(write_beir(tmp_path / "unjudged", judgements={"other": {"d1": 1}}))


def test_a_folder_of_no_layout_and_a_split_that_is_not_there_say_what_is(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match=r"corpus\.jsonl .* nor collection\.tsv"):
        Collection.read(tmp_path)
    with pytest.raises(CollectionError, match=r"train\.tsv is missing; there are test\. Choose with --split"):
        Collection.read(write_beir(tmp_path / "a"), "train")
    with pytest.raises(CollectionError, match=r"qrels\.eval\.tsv is missing; there are dev\.small"):
        Collection.read(write_ms_marco(tmp_path / "b"), "eval")


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_data(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "a")
    for path in (folder / "corpus.jsonl", folder / "queries.jsonl", folder / "qrels" / "test.tsv"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert list(Collection.read(folder).documents) == list(DOCUMENTS)
