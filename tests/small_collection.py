"""A small judged collection, written in BEIR's or MS MARCO's layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

HOSTILE = "<script>window.hacked = true</script><img src=x onerror='window.hacked = true'> & \"quoted\""

DOCUMENTS = {
    "d1": ("The Manhattan Project", "It built the atomic bomb that helped end World War II."),
    "d2": ("", "Nuclear reactors make electricity from uranium."),
    "d3": ("River banks", "Trout live where the river is cold and clear."),
    "d4": ("Savings banks", "A bank lends the money that others have saved."),
    "d5": ("", "Bees make honey from the nectar of flowers."),
    "d6": ("Honey", "A jar of honey keeps for years without spoiling."),
    "d7": (HOSTILE, "A page about scripts in web pages, and what they may do."),
    "d8": ("", "The treaty ended the war between the two kingdoms."),
    "d9": ("", "Fishing for trout needs a licence and a rod."),
    "d10": ("", ""),
}
QUERIES = {
    "q1": "who built the nuclear bomb",
    "q2": "where do trout live",
    "q3": "who lends money",
    "q4": "what do bees make",
    "q5": f"scripts in a page {HOSTILE}",
    "q6": "nobody judged this",
    "q7": "zzyzx",
}
JUDGMENTS = {
    "q1": {"d1": 2, "d2": 1, "d8": 0},
    "q2": {"d3": 2, "d9": 1},
    "q3": {"d4": 1},
    "q4": {"d5": 2, "d6": 1},
    "q5": {"d7": 1},
    "q7": {"d3": 1},
}


def write_beir(
    folder: Path,
    documents: Mapping[str, tuple[str, str]] = DOCUMENTS,
    queries: Mapping[str, str] = QUERIES,
    judgments: Mapping[str, Mapping[str, int]] = JUDGMENTS,
) -> Path:
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": document, "title": title, "text": text} for document, (title, text) in documents.items()]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": query, "text": text}) + "\n" for query, text in queries.items())
    )
    lines = [f"{query}\t{document}\t{grade}\n" for query, row in judgments.items() for document, grade in row.items()]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    return folder


def write_ms_marco(
    folder: Path,
    queries: Mapping[str, str] = QUERIES,
    judgments: Mapping[str, Mapping[str, int]] = JUDGMENTS,
) -> Path:
    """The same documents, with the names and formats of MS MARCO's passage ranking."""
    folder.mkdir(parents=True)
    (folder / "collection.tsv").write_text(
        "".join(f"{document}\t{f'{title} {text}'.strip()}\n" for document, (title, text) in DOCUMENTS.items())
    )
    (folder / "queries.dev.small.tsv").write_text("".join(f"{query}\t{text}\n" for query, text in queries.items()))
    (folder / "qrels.dev.small.tsv").write_text(
        "".join(
            f"{query}\t0\t{document}\t{grade}\n" for query, row in judgments.items() for document, grade in row.items()
        )
    )
    return folder
