"""A judged collection: documents, queries, and which documents answer which queries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from spladerunner.errors import CollectionError

LARGEST_GRADE = 1000
"""trec_eval keeps a counter for each grade up to the largest."""

BEIR = "corpus.jsonl"
MS_MARCO = "collection.tsv"
USUAL_SPLIT = {BEIR: "test", MS_MARCO: "dev.small"}


@dataclass(frozen=True)
class Caveat:
    """Something that a reader of the figures must know, and how often it is so."""

    what: str
    count: int

    def __str__(self) -> str:
        return f"{self.what}: {self.count:,}"


@dataclass(frozen=True)
class Collection:
    """Documents (title and text), the judged queries, and the judgements {query: {document: grade}}.

    warnings: what was found that changes or may change a figure.
    """

    name: str
    split: str
    documents: dict[str, str]
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]
    warnings: tuple[Caveat, ...] = ()

    @classmethod
    def read(cls, folder: str | PathLike[str], split: str | None = None) -> Collection:
        """Reads a folder in BEIR's or MS MARCO's layout.

        BEIR: corpus.jsonl (_id, title, text), queries.jsonl (_id, text) and qrels/SPLIT.tsv (query, document, grade).
        MS MARCO: collection.tsv and queries.SPLIT.tsv (id, text), and qrels.SPLIT.tsv (query, 0, document, grade).
        split: unless given, "test" in BEIR's layout and "dev.small" in MS MARCO's.

        Raises CollectionError, with the file and the line, where a line is broken or an id is there twice, and where
        there is no document or no judged query. OSError where a file cannot be opened.
        """
        folder = Path(folder)
        layout = next((name for name in (BEIR, MS_MARCO) if (folder / name).is_file()), None)
        if layout is None:
            raise CollectionError(
                f"{folder} is no collection: it has neither {BEIR} (BEIR's layout) nor {MS_MARCO} (MS MARCO's)."
            )
        split = USUAL_SPLIT[layout] if split is None else split
        if layout == BEIR:
            judgements, repeated = _judgements(_split_file(folder, "qrels/{}.tsv", split))
            documents = _unique(folder / BEIR, _json_texts(folder / BEIR, title=True))
            queries = _unique(folder / "queries.jsonl", _json_texts(folder / "queries.jsonl", title=False))
        else:
            judgements, repeated = _judgements(_split_file(folder, "qrels.{}.tsv", split))
            documents = _unique(folder / MS_MARCO, _tsv_texts(folder / MS_MARCO))
            query_file = _split_file(folder, "queries.{}.tsv", split)
            queries = _unique(query_file, _tsv_texts(query_file))
        return _matched(folder.resolve().name, split, documents, queries, judgements, repeated)


def _matched(
    name: str,
    split: str,
    documents: dict[str, str],
    queries: dict[str, str],
    judgements: dict[str, dict[str, int]],
    repeated: int,
) -> Collection:
    """The collection with the judged queries alone, and a count of everything that does not fit."""
    if not documents:
        raise CollectionError(f"{name} has no documents.")
    judged = {query: judgements[query] for query in queries if query in judgements}
    if not judged:
        raise CollectionError(
            f"{name} has no judged query: none of the {len(judgements)} judged ids in {split!r} is one."
        )
    unknown_documents = sum(document not in documents for row in judged.values() for document in row)
    without_relevant = sum(max(row.values()) < 1 for row in judged.values())
    caveats = (
        Caveat("judgements that are there twice, with the same grade", repeated),
        Caveat("judged queries that are not in the collection, left out", len(judgements) - len(judged)),
        Caveat("queries without a judgement in this split, left out", len(queries) - len(judged)),
        Caveat("judgements of documents that are not in the collection, counted as not found", unknown_documents),
        Caveat("judged queries without a relevant document, counted as 0 as in trec_eval", without_relevant),
        Caveat("empty documents, which nothing finds", sum(not text.strip() for text in documents.values())),
        Caveat("empty judged queries, which find nothing", sum(not queries[query].strip() for query in judged)),
    )
    return Collection(
        name,
        split,
        documents,
        {query: queries[query] for query in judged},
        judged,
        tuple(caveat for caveat in caveats if caveat.count),
    )


def _split_file(folder: Path, pattern: str, split: str) -> Path:
    path = folder / pattern.format(split)
    if not path.is_file():
        before, after = path.with_name(pattern.rpartition("/")[2]).name.split("{}")
        found = sorted(
            other.name.removeprefix(before).removesuffix(after) for other in path.parent.glob(f"{before}*{after}")
        )
        have = f"there are {', '.join(found)}" if found else "there is none of that kind"
        raise CollectionError(f"{path} is missing; {have}. Choose with --split.")
    return path


def _json_texts(path: Path, *, title: bool) -> Iterator[tuple[int, str, str]]:
    for number, line in _lines(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CollectionError(f"{path}:{number} is no JSON: {error}") from error
        if not isinstance(row, dict) or not isinstance(row.get("_id"), str) or not isinstance(row.get("text"), str):
            raise CollectionError(f"{path}:{number} is no object with _id and text, both strings.")
        heading = (row.get("title") or "") if title else ""
        yield number, row["_id"], f"{heading} {row['text']}".strip()


def _tsv_texts(path: Path) -> Iterator[tuple[int, str, str]]:
    for number, line in _lines(path):
        identifier, tab, text = line.partition("\t")
        if not tab:
            raise CollectionError(f"{path}:{number} has no tab between an id and a text.")
        yield number, identifier, text


def _unique(path: Path, rows: Iterator[tuple[int, str, str]]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, identifier, text in rows:
        if identifier in texts:
            raise CollectionError(f"{path}:{number}: the id {identifier!r} is there twice.")
        if not identifier or len(identifier.split()) != 1 or identifier != identifier.strip():
            raise CollectionError(
                f"{path}:{number}: the id {identifier!r} is empty or holds white space, which TREC files cannot hold."
            )
        texts[identifier] = text
    return texts


def _judgements(path: Path) -> tuple[dict[str, dict[str, int]], int]:
    """Three columns as in BEIR, or TREC's four, and how many are there twice."""
    judgements: dict[str, dict[str, int]] = {}
    repeated = 0
    for number, line in _lines(path):
        columns = line.split()
        if number == 1 and len(columns) == 3 and not columns[-1].lstrip("-").isdigit():
            continue  # BEIR's header
        try:
            query, document, grade = columns[0], columns[-2], int(columns[-1])
        except (IndexError, ValueError):
            grade = LARGEST_GRADE + 1
        if len(columns) not in (3, 4) or abs(grade) > LARGEST_GRADE:
            raise CollectionError(
                f"{path}:{number} is {line!r}, where a query, a document and a grade belong, a whole number of at "
                f"most {LARGEST_GRADE}; or TREC's four columns."
            )
        row = judgements.setdefault(query, {})
        if row.get(document, grade) != grade:
            raise CollectionError(f"{path}:{number}: query {query!r} has two grades for document {document!r}.")
        repeated += document in row
        row[document] = grade
    return judgements, repeated


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, with their numbers from 1."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise CollectionError(f"{path}:{number} is no UTF-8: {error}") from error
            if text.strip():
                yield number, text
