from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from spladerunner import SparseVector, formats
from spladerunner.formats.quantized import LONGEST_TERM, MOST_QUERY_TOKENS
from spladerunner.vocabulary import Vocabulary
from tests.engines.pages import run_page
from tests.engines.scifact import TOP, SciFact, assert_same_top, exact_scores, shared_top


@pytest.fixture(scope="module", autouse=True)
def java() -> None:
    if shutil.which("java") is None:
        message = "Anserini needs Java: apt-get install openjdk-17-jre-headless"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


def anserini(*arguments: str) -> str:
    pyserini = find_spec("pyserini")
    assert pyserini is not None
    assert pyserini.submodule_search_locations
    (folder,) = pyserini.submodule_search_locations
    (jar,) = Path(folder, "resources", "jars").glob("anserini-*-fatjar.jar")
    done = subprocess.run(["java", "-cp", str(jar), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def rank(
    folder: Path, documents: Mapping[str, SparseVector], queries: Mapping[str, SparseVector], vocabulary: Vocabulary
) -> dict[str, list[tuple[str, float]]]:
    write_lines(folder / "docs" / "docs.jsonl", "anserini", documents, vocabulary)
    write_lines(folder / "topics.tsv", "anserini-topics", queries, vocabulary)
    return search(folder)


def write_lines(path: Path, name: str, vectors: Mapping[str, SparseVector], vocabulary: Vocabulary) -> None:
    path.parent.mkdir(exist_ok=True)
    line = formats.FORMATS[name]
    path.write_text("".join(f"{line(key, vector, vocabulary)}\n" for key, vector in vectors.items()), encoding="utf-8")


def search(folder: Path) -> dict[str, list[tuple[str, float]]]:
    """Indexes docs/ of the folder, and returns the ranking of each query of its topics.tsv."""
    anserini(
        *("io.anserini.index.IndexCollection", "-collection", "JsonVectorCollection", "-input", f"{folder}/docs"),
        *("-index", f"{folder}/index", "-generator", "DefaultLuceneDocumentGenerator", "-impact", "-pretokenized"),
    )
    output = anserini(
        *("io.anserini.search.SearchCollection", "-index", f"{folder}/index", "-topicReader", "TsvString"),
        *("-topics", f"{folder}/topics.tsv", "-output", f"{folder}/run.txt", "-impact", "-pretokenized"),
        *("-hits", str(TOP)),
    )
    assert "Exception" not in output and "Error" not in output, output  # the exit status is 0 even then
    found: dict[str, list[tuple[str, float]]] = {}
    for row in (folder / "run.txt").read_text(encoding="utf-8").splitlines():
        query_id, _, document_id, _, score, _ = row.split(" ")
        found.setdefault(query_id, []).append((document_id, float(score)))
    return found


def test_page_runs(tmp_path: Path) -> None:
    run_page("anserini", tmp_path)


def test_scifact_top_10_is_exact_except_for_rounding_to_impacts(scifact: SciFact, tmp_path: Path) -> None:
    found = rank(tmp_path, scifact.documents, scifact.queries, scifact.vocabulary)
    found = {name: found[name] for name in scifact.queries}
    queries, documents = (
        [formats.from_impacts(formats.impacts(vector)) for vector in vectors.values()]
        for vectors in (scifact.queries, scifact.documents)
    )
    assert_same_top(found, scifact, exact_scores(queries, documents, len(scifact.vocabulary)) * 100 * 100)
    assert shared_top(found, scifact, scifact.exact_scores()) == pytest.approx(0.995, abs=0.002)


def test_tokens_that_need_encoding_are_found(tmp_path: Path) -> None:
    tokens = ["a b", "a\u2003b", "\u00a0", "%20", "%", ".", "##ing", "naïve", "数", '"', "x" * LONGEST_TERM]
    vocabulary = Vocabulary(tokens, [])
    vectors = {str(at): SparseVector([at], [1.0 + at]) for at in range(len(tokens))}
    found = rank(tmp_path, vectors, vectors, vocabulary)
    assert found == {str(at): [(str(at), (100 + 100 * at) ** 2)] for at in range(len(tokens))}


def test_a_query_without_a_token_finds_nothing(tmp_path: Path) -> None:
    vocabulary = Vocabulary(["%", "a"], [])
    documents = {"d": SparseVector([0, 1], [1.0, 2.0]), "empty": SparseVector([], [])}
    queries = {"none": SparseVector([], []), "some": SparseVector([1], [1.0])}
    assert rank(tmp_path, documents, queries, vocabulary) == {"some": [("d", 20000.0)]}
    (tmp_path / "topics.tsv").write_text("none\t\n")
    with pytest.raises(AssertionError, match="Unable to load topic reader"):
        search(tmp_path)


def test_documented_limits(tmp_path: Path) -> None:
    """Lucene refuses more than 1,024 tokens in a query, and splits a token of more than 255 characters."""
    tokens = [*(f"t{at}" for at in range(MOST_QUERY_TOKENS + 1)), "x" * (LONGEST_TERM + 1)]
    vocabulary = Vocabulary(tokens, [])
    everything = SparseVector(np.arange(MOST_QUERY_TOKENS + 1), np.linspace(1, 2, MOST_QUERY_TOKENS + 1))
    with pytest.warns(UserWarning, match="the 1 lightest"):
        found = rank(tmp_path, {"d": everything}, {"q": everything}, vocabulary)
    kept = formats.from_impacts(formats.impacts(everything.top(MOST_QUERY_TOKENS)))
    ((document_id, score),) = found["q"]
    assert document_id == "d"
    assert score == pytest.approx(kept.dot(kept) * 1e4)

    document = {"id": "d", "contents": "", "vector": {tokens[-1]: 1}}
    (tmp_path / "docs" / "docs.jsonl").write_text(json.dumps(document))
    (tmp_path / "topics.tsv").write_text(f"whole\t{tokens[-1][:-1]}\nrest\tx\n")
    assert search(tmp_path) == {"rest": [("d", 1.0)], "whole": [("d", 1.0)]}
    (tmp_path / "topics.tsv").write_text(f"q\t{' '.join(tokens[:-1])}\n")
    with pytest.raises(AssertionError, match="maxClauseCount is set to 1024"):
        search(tmp_path)
