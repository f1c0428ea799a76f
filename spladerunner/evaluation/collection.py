"""Collection: documents, queries, and relevance judgments (qrels)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain
from os import PathLike
from pathlib import Path

from spladerunner.errors import CollectionError
from spladerunner.readers.files import Input
from spladerunner.readers.lines import read_lines
from spladerunner.readers.records import Fields, decode_line

LARGEST_GRADE = 1000
"""A limit, because trec_eval allocates a counter for each grade up to the largest."""

BEIR = "corpus.jsonl"
MS_MARCO = "collection.tsv"
DEFAULT_SPLIT = {BEIR: "test", MS_MARCO: "dev.small"}

_GRADE = re.compile(r"[+-]?[0-9]{1,9}(\.0*)?")
_NOT_IN_TREC_FILES = re.compile("[\\s\0\ud800-\udfff]")
"""White space, which separates columns; NUL, which ends a string in trec_eval; lone surrogates, which UTF-8 lacks."""

_DOCUMENT = Fields()
_QUERY = Fields(title=None)  # BEIR's own loader reads no title of a query


@dataclass(frozen=True)
class Caveat:
    """A caveat about the figures, and how often it applies."""

    what: str
    count: int

    def __str__(self) -> str:
        return f"{self.what}: {self.count:,}"


@dataclass(frozen=True)
class Collection:
    """A judged collection.

    documents, queries: {id: text}, with a document's title before its text; only queries that have judgments.
    judgments: {query: {document: grade}}. caveats: properties of the collection that may change a figure.

    Raises CollectionError if an id of a document or a query is empty or contains white space, NUL or a lone surrogate,
    as TREC run and qrels files cannot hold it.
    """

    name: str
    split: str
    documents: dict[str, str]
    queries: dict[str, str]
    judgments: dict[str, dict[str, int]]
    caveats: tuple[Caveat, ...] = ()

    def __post_init__(self) -> None:
        for identifier in chain(self.documents, self.queries):
            if fault := _fault(identifier):
                raise CollectionError(fault)

    @classmethod
    def read(cls, folder: str | PathLike[str], split: str | None = None) -> Collection:
        """Reads a folder in BEIR's or MS MARCO's layout.

        BEIR: corpus.jsonl (_id, title, text), queries.jsonl (_id, text) and qrels/SPLIT.tsv (query, document, grade).
        MS MARCO: collection.tsv and queries.SPLIT.tsv (id, text), and qrels.SPLIT.tsv (query, 0, document, grade).
        split: by default, "test" in BEIR's layout and "dev.small" in MS MARCO's.

        Texts are read by the rules of spladerunner.readers. TREC run files add one: what an id may not contain.

        Raises InputError with the file and the line if a text cannot be read; CollectionError with the file and the
        line if an id does not fit into a TREC file or a judgment is invalid, and if there is no document or no judged
        query; OSError if a file cannot be opened.
        """
        folder = Path(folder)
        layout = next((name for name in (BEIR, MS_MARCO) if (folder / name).is_file()), None)
        if layout is None:
            raise CollectionError(
                f"{folder} is not a collection: it has neither {BEIR} (BEIR's layout) nor {MS_MARCO} (MS MARCO's).",
                path=folder,
            )
        split = DEFAULT_SPLIT[layout] if split is None else split
        if layout == BEIR:
            judgments, repeated = _read_judgments(_split_file(folder, "qrels/{}.tsv", split))
            documents = _read_texts(folder / BEIR, _DOCUMENT)
            queries = _read_texts(folder / "queries.jsonl", _QUERY)
        else:
            judgments, repeated = _read_judgments(_split_file(folder, "qrels.{}.tsv", split))
            documents = _read_texts(folder / MS_MARCO)
            queries = _read_texts(_split_file(folder, "queries.{}.tsv", split))
        return _match(folder, split, documents, queries, judgments, repeated)


def _match(
    folder: Path,
    split: str,
    documents: dict[str, str],
    queries: dict[str, str],
    judgments: dict[str, dict[str, int]],
    repeated: int,
) -> Collection:
    """Keeps the judged queries, and counts what does not match."""
    if not documents:
        raise CollectionError(f"{folder} has no documents.", path=folder)
    judged = {query: judgments[query] for query in queries if query in judgments}
    if not judged:
        raise CollectionError(
            f"{folder} has no judged query: none has one of the {len(judgments)} query ids in the qrels {split!r}.",
            path=folder,
        )
    unknown_documents = sum(document not in documents for row in judged.values() for document in row)
    without_relevant = sum(max(row.values()) < 1 for row in judged.values())
    caveats = (
        Caveat("judgments given twice, with the same grade", repeated),
        Caveat("judged queries that are not in the collection, left out", len(judgments) - len(judged)),
        Caveat("queries without a judgment in this split, left out", len(queries) - len(judged)),
        Caveat("judgments of documents that are not in the collection, counted as not found", unknown_documents),
        Caveat("judged queries without a relevant document, counted as 0 as in trec_eval", without_relevant),
        Caveat("empty documents, which no query finds", sum(not text.strip() for text in documents.values())),
        Caveat("empty judged queries, which find no document", sum(not queries[query].strip() for query in judged)),
    )
    return Collection(
        folder.resolve().name,
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
        have = f"the splits here are: {', '.join(found)}" if found else "there is no other split"
        raise CollectionError(f"{path} is missing; {have}. Choose one with --split.", path=path)
    return path


def _read_texts(path: Path, fields: Fields = _DOCUMENT) -> dict[str, str]:
    """Reads the texts of a file by id, by the rules of readers; an id must also fit into a TREC file."""
    texts: dict[str, str] = {}
    for line in read_lines([Input(str(path))], fields):
        record = line.checked()
        if record is None:
            continue
        if fault := _fault(record.id):
            raise CollectionError(f"{path}, line {line.number}: {fault}", path=path, line=line.number)
        texts[record.id] = record.text
    return texts


def _fault(identifier: str) -> str | None:
    """Says why an id does not fit into a TREC file; None if it does."""
    if identifier and not _NOT_IN_TREC_FILES.search(identifier):
        return None
    return (
        f"the id {identifier!r} is empty or contains white space, NUL or a lone surrogate, which TREC run and qrels "
        "files cannot hold. Change the id, here and in the qrels."
    )


def _read_judgments(path: Path) -> tuple[dict[str, dict[str, int]], int]:
    """Reads BEIR's three columns or TREC's four; returns {query: {document: grade}}, and the number of repetitions."""
    judgments: dict[str, dict[str, int]] = {}
    repeated = 0
    for number, line in enumerate(Input(str(path), "tsv").lines(), start=1):
        try:
            columns = decode_line(line).split()
        except ValueError as error:
            raise CollectionError(f"{path}, line {number}: {error}. Fix the line.", path=path, line=number) from error
        if not columns or (number == 1 and len(columns) == 3 and not re.search("[0-9]", columns[-1])):
            continue  # a blank line, or BEIR's header
        found = _GRADE.fullmatch(columns[-1])
        grade = int(float(found[0])) if found else LARGEST_GRADE + 1
        if len(columns) not in (3, 4) or abs(grade) > LARGEST_GRADE:
            raise CollectionError(
                f"{path}, line {number} is not a judgment: {' '.join(columns)[:200]!r}. It needs a query, a document "
                f"and a grade, an integer from -{LARGEST_GRADE} to {LARGEST_GRADE}; or TREC's four columns.",
                path=path,
                line=number,
            )
        query, document = columns[0], columns[-2]
        row = judgments.setdefault(query, {})
        if row.get(document, grade) != grade:
            raise CollectionError(
                f"{path}, line {number}: query {query!r} has two grades for document {document!r}. Remove one.",
                path=path,
                line=number,
            )
        repeated += document in row
        row[document] = grade
    return judgments, repeated
