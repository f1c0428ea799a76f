"""Models and BM25 on a small collection, through the library and through the command."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytrec_eval
import scipy.stats
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spladerunner import CollectionError, Expander
from spladerunner.cli.eval import drawn
from spladerunner.evaluation import systems
from spladerunner.evaluation.bm25 import BM25, stem
from spladerunner.evaluation.collection import Collection
from spladerunner.evaluation.means import Means
from spladerunner.evaluation.results import Evaluation, evaluate
from spladerunner.evaluation.rows import SPEED
from spladerunner.evaluation.systems import UNPRUNED, Pruning
from tests.small_collection import DOCUMENTS, JUDGMENTS, QUERIES, write_beir, write_ms_marco
from tests.small_model import write_bundle
from tests.test_cli import COMMAND, in_terminal, run

PRUNING = {"top", "min_weight"}
PRUNINGS = [UNPRUNED, Pruning(top=4), Pruning(min_weight=0.5)]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return Collection.read(write_beir(tmp_path_factory.mktemp("data") / "small"))


@pytest.fixture(scope="module")
def evaluation(collection: Collection, expander: Expander) -> Evaluation:
    return evaluate(collection, [expander], PRUNINGS)


def test_figures_are_those_of_pytrec_eval_on_the_run_files(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.save(tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert [system["run"] for system in result["systems"]] == [
        "BM25.run",
        "tiny-en.run",
        "tiny-en-top-4.run",
        "tiny-en-min-0.5.run",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["result.json", *(system["run"] for system in result["systems"])]
    )
    measures = {"nDCG@10": "ndcg_cut_10", "recall@100": "recall_100", "recall@1000": "recall_1000"}
    for system in result["systems"]:
        with (tmp_path / system["run"]).open() as file:
            found = pytrec_eval.parse_run(file)
        figures = pytrec_eval.RelevanceEvaluator(JUDGMENTS, set(measures.values())).evaluate(found)
        top_10 = {
            query: dict(sorted(row.items(), key=lambda pair: (pair[1], pair[0]))[-10:]) for query, row in found.items()
        }
        reciprocal = pytrec_eval.RelevanceEvaluator(JUDGMENTS, {"recip_rank"}).evaluate(top_10)
        for query in JUDGMENTS:
            for name, theirs in measures.items():
                expected = figures[query][theirs] if query in figures else 0
                assert system["per_query"][name][query] == pytest.approx(expected, abs=1e-12)
            expected = reciprocal[query]["recip_rank"] if query in reciprocal else 0
            assert system["per_query"]["MRR@10"][query] == pytest.approx(expected, abs=1e-12)
        for name, figure in system["measures"].items():
            assert figure == pytest.approx(np.mean([*system["per_query"][name].values()]))


def test_any_measure_is_that_of_pytrec_eval(collection: Collection, expander: Expander) -> None:
    theirs = {"AP": ("map", 1), "P(rel=2)@5": ("P_5", 2), "Bpref": ("bpref", 1), "recall@5": ("recall_5", 1)}
    found = evaluate(collection, [expander], measures=[*theirs])
    assert found.main == "AP" and found.pairs[0].comparison.difference == pytest.approx(
        found.systems[1].mean("AP") - found.bm25.mean("AP")
    )
    for system in found.systems:
        run = pytrec_eval.parse_run(found.trec_run(system))
        for name, (measure, level) in theirs.items():
            evaluator = pytrec_eval.RelevanceEvaluator(JUDGMENTS, {measure}, relevance_level=level)
            figures = evaluator.evaluate(run)
            expected = [figures[query][measure] if query in figures else 0 for query in JUDGMENTS]
            assert system.scores[name].tolist() == pytest.approx(expected)


def test_pruned_queries_and_ratios_score_as_the_pruned_vectors(collection: Collection, expander: Expander) -> None:
    document_pruning, query_pruning = Pruning(max_ratio=0.5), Pruning(top=3)
    found = evaluate(collection, [expander], [UNPRUNED, document_pruning], [UNPRUNED, query_pruning])
    assert [system.name for system in found.model_systems] == [
        "tiny-en",
        "tiny-en, queries top 3",
        "tiny-en, ratio 0.5",
        "tiny-en, ratio 0.5, queries top 3",
    ]
    documents = dict(zip(collection.documents, expander.encode(list(collection.documents.values())), strict=True))
    queries = dict(
        zip(collection.queries, expander.encode(list(collection.queries.values()), role="query"), strict=True)
    )
    lines = [line.split() for line in found.trec_run(found.model_systems[3])]
    scores = {(query, document): float(score) for query, _, document, _, score, _ in lines}
    for query, of_query in queries.items():
        best = sorted(zip(of_query.values, of_query.indices, strict=True), key=lambda pair: (-pair[0], pair[1]))[:3]
        for document, vector in documents.items():
            kept = {
                int(token): float(value)
                for token, value in zip(vector.indices, vector.values, strict=True)
                if value >= np.float32(0.5 * float(max(vector.values)))
            }
            exact = sum(float(weight) * kept.get(int(token), 0.0) for weight, token in best)
            assert scores.get((query, document), 0.0) == pytest.approx(exact, rel=1e-6)
    assert found.record()["systems"][4]["query_pruning"]["top"] == 3
    assert found.model_systems[3].queries.mean_length <= 3


def test_fusions_are_of_the_two_runs_and_cost_both(collection: Collection, expander: Expander) -> None:
    found = evaluate(collection, [expander], [UNPRUNED, Pruning(top=4)], fusion_weight=0.25)
    bm25, model, _, by_rank, by_score = found.systems
    assert by_rank.name == "tiny-en + BM25, reciprocal rank" and by_score.name == "tiny-en + BM25, weight 0.25"
    runs = [pytrec_eval.parse_run(found.trec_run(system)) for system in (model, bm25, by_rank, by_score)]
    for query in collection.queries:
        ours, theirs, ranked, weighted = (run.get(query, {}) for run in runs)
        expected_rank: dict[str, float] = {}
        expected_score: dict[str, float] = {}
        for found_, weight in ((ours, 0.25), (theirs, 0.75)):
            in_order = sorted(found_.items(), key=lambda pair: pair[::-1], reverse=True)
            for rank, (document, score) in enumerate(in_order, 1):
                expected_rank[document] = expected_rank.get(document, 0) + 1 / (60 + rank)
                expected_score[document] = expected_score.get(document, 0) + weight * score / max(found_.values())
        assert ranked == pytest.approx(expected_rank) and weighted == pytest.approx(expected_score)
    assert by_rank.documents.postings == model.documents.postings + bm25.documents.postings
    assert by_rank.documents.mean_length == pytest.approx(model.documents.mean_length + bm25.documents.mean_length)
    rows = {row.key: [cell.value for cell in row.cells] for row in found.rows()["index"]}
    assert rows["flops"][3] == pytest.approx(sum(flops for flops in rows["flops"][:2] if flops))


def test_rates_and_latencies_are_of_the_clock(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that tells how many texts were encoded: a document takes 4 seconds, a query 2, a search nothing."""
    now = 1000.0
    expander = Expander()

    def encoded(text: str, role: str) -> None:
        nonlocal now
        now += 4 if role == "doc" else 2

    call_for_each(monkeypatch, expander, encoded)
    monkeypatch.setattr("time.perf_counter", lambda: now)
    (found,) = systems.evaluate_model(collection, expander)
    assert (found.documents_per_second, found.queries_per_second) == (1 / 4, 1 / 2)
    assert found.query_milliseconds.tolist() == [2000] * len(collection.queries) and found.search_milliseconds == 0
    monkeypatch.setattr(systems, "TIMED_QUERIES", 2)
    (few,) = systems.evaluate_model(collection, expander)
    assert few.query_milliseconds.tolist() == [2000, 2000]


def test_rates_of_the_baseline_are_of_the_clock(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexing takes 8 seconds, stemming a query 3, a search 5."""
    now = 1000.0

    def taking(seconds: float, function: Any) -> Any:
        def call(*given: Any) -> Any:
            nonlocal now
            now += seconds
            return function(*given)

        return call

    count = len(collection.queries)
    monkeypatch.setattr("time.perf_counter", lambda: now)
    monkeypatch.setattr(BM25, "rank", taking(5, BM25.rank))
    monkeypatch.setattr(systems, "stem", taking(3, stem))
    monkeypatch.setattr(systems, "BM25", taking(8, BM25))
    found, _ = systems.evaluate_bm25(collection)
    assert found.documents_per_second == len(collection.documents) / 8
    assert found.queries_per_second == count / 3
    assert found.search_milliseconds == 5000
    assert found.query_milliseconds.tolist() == [3000] * count


def test_a_fusion_takes_the_time_of_both_one_after_the_other(collection: Collection, expander: Expander) -> None:
    """1/2 s and 1/3 s a document are 5/6 s; 1/4 s and 1/6 s a query are 5/12 s."""
    (model,) = systems.evaluate_model(collection, expander)
    bm25, _ = systems.evaluate_bm25(collection)
    count = len(collection.queries)
    model = replace(model, documents_per_second=2.0, queries_per_second=4.0, query_milliseconds=np.full(count, 7.0))
    bm25 = replace(bm25, documents_per_second=3.0, queries_per_second=6.0, query_milliseconds=np.full(count, 0.5))
    for fused in systems.fuse(collection, model, bm25, 0.5):
        assert fused.documents_per_second == pytest.approx(6 / 5)
        assert fused.queries_per_second == pytest.approx(12 / 5)
        assert fused.query_milliseconds.tolist() == [7.5] * count
        assert fused.search_milliseconds > model.search_milliseconds + bm25.search_milliseconds


def test_progress_names_each_system_and_what_it_reads(collection: Collection, expander: Expander) -> None:
    lines: list[str] = []
    evaluate(collection, [expander], names=["a"], progress=lines.append)
    documents, queries = len(collection.documents), len(collection.queries)
    assert lines[:2] == [f"BM25: {documents} documents", f"a: {documents} documents, {queries} queries"]


def test_percentiles_are_those_of_the_latencies(evaluation: Evaluation) -> None:
    milliseconds = np.array([float(n) for n in range(101)])
    (row,) = (figure for figure in SPEED if figure.key == "query_milliseconds_p95")
    assert row.value(replace(evaluation.bm25, query_milliseconds=milliseconds)) == 95


def test_ties_are_in_the_order_in_which_trec_eval_reads_the_run_file(tmp_path: Path, expander: Expander) -> None:
    documents = {f"d{n}": ("", "the very same honey") for n in range(30)}
    folder = write_beir(tmp_path / "ties", documents, {"q": "honey"}, {"q": {"d3": 1, "d25": 2}})
    found = evaluate(Collection.read(folder), [expander])
    for system in found.systems:
        theirs = pytrec_eval.RelevanceEvaluator({"q": {"d3": 1, "d25": 2}}, {"ndcg_cut_10", "recall_5"}).evaluate(
            pytrec_eval.parse_run(found.trec_run(system))
        )
        assert system.mean("nDCG@10") == pytest.approx(theirs["q"]["ndcg_cut_10"])
        order = [line.split()[2] for line in found.trec_run(system)]
        assert order == sorted(documents, reverse=True)


def test_the_scores_of_the_run_are_the_dot_products(evaluation: Evaluation, expander: Expander) -> None:
    texts = dict(zip(DOCUMENTS, expander.encode([f"{a} {b}".strip() for a, b in DOCUMENTS.values()]), strict=True))
    queries = dict(zip(QUERIES, expander.encode(QUERIES.values(), role="query"), strict=True))
    for system, pruning in zip(evaluation.model_systems, PRUNINGS, strict=True):
        lines = [line.split() for line in evaluation.trec_run(system)]
        assert len(lines) > 5
        for query, _, document, _, score, _ in lines:
            exact = queries[query].dot(pruning(texts[document]))
            assert float(score) == pytest.approx(exact, rel=1e-6) and np.float32(score) == np.float32(float(score))


def test_prunings_cost_what_the_pruned_documents_hold(evaluation: Evaluation, expander: Expander) -> None:
    vectors = expander.encode([f"{a} {b}".strip() for a, b in DOCUMENTS.values()])
    queries = expander.encode([QUERIES[query] for query in JUDGMENTS], role="query")
    for system, record, pruning in zip(
        evaluation.model_systems, evaluation.record()["systems"][1:], PRUNINGS, strict=True
    ):
        pruned = [pruning(vector) for vector in vectors]
        assert record["postings"] == sum(map(len, pruned)) == system.documents.postings
        assert record["index_bytes"] == 8 * record["postings"]
        assert record["weights_per_document"] == pytest.approx(np.mean([*map(len, pruned)]))
        assert record["weights_per_query"] == pytest.approx(np.mean([*map(len, queries)]))
        reads = [sum(np.isin(pruned_.indices, query.indices).sum() for pruned_ in pruned) for query in queries]
        assert record["posting_reads_per_query"] == pytest.approx(np.mean(reads))
    assert evaluation.model_systems[1].documents.mean_length <= 4


def call_for_each(monkeypatch: pytest.MonkeyPatch, expander: Expander, encoded: Callable[[str, str], None]) -> None:
    """Calls encoded(text, role) when the expander yields the vector of a text."""
    stream, passages = expander.stream, expander.passages

    def streamed(texts, *, role="doc", overlap=None):  # type: ignore[no-untyped-def]
        for text, vector in zip(kept := list(texts), stream(kept, role=role), strict=True):
            encoded(text, role)
            yield vector

    def windows(texts, *, role="doc", overlap=0):  # type: ignore[no-untyped-def]
        for text, passage in zip(kept := list(texts), passages(kept, role=role, overlap=overlap), strict=True):
            encoded(text, role)
            yield passage

    monkeypatch.setattr(expander, "stream", streamed)
    monkeypatch.setattr(expander, "passages", windows)


def test_a_model_encodes_once_for_all_its_prunings(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    expander = Expander()
    call_for_each(monkeypatch, expander, lambda text, role: seen.append(text))
    monkeypatch.setattr(systems, "BLOCK", 3)
    found = systems.evaluate_model(collection, expander, PRUNINGS)
    queries = [*collection.queries.values()]  # at once for their rate, and one by one for their latencies
    assert sorted(seen) == sorted([*collection.documents.values(), *queries, *queries])
    assert [system.name for system in found] == ["tiny-en", "tiny-en, top 4", "tiny-en, min 0.5"]


def test_texts_that_are_cut_are_counted_with_the_tokens_that_are_lost() -> None:
    documents = {"long": "honey " * 10, "also": "trout " * 7, "short": "river", "full": "bank " * 6}
    queries = {"q1": "honey", "q2": "trout " * 9}
    collection = Collection("cut", "test", documents, queries, {"q1": {"long": 1}, "q2": {"also": 1}})
    found = evaluate(collection, [Expander(max_length=8)], [UNPRUNED, Pruning(top=2)])  # 6 beside special tokens
    for system in found.model_systems:
        assert (system.documents_cut, system.queries_cut) == (2, 1)
        assert system.tokens_lost == pytest.approx((4 + 1) / (10 + 7 + 1 + 6))
        assert system.documents.texts == 4
    assert [*map(str, found.caveats)][:2] == [
        "documents that tiny-en cuts, 20.8% of all tokens: 2",
        "queries that tiny-en cuts: 1",
    ]
    record = found.record()["systems"]
    assert [row["documents_cut"] for row in record] == [0, 2, 2] and record[1]["tokens_lost"] == pytest.approx(5 / 24)


def test_each_system_is_compared_with_bm25(evaluation: Evaluation) -> None:
    record = evaluation.record()
    bm25, *models = record["systems"]
    assert bm25["name"] == "BM25" and bm25["against_bm25"] is None and "t-test" in record["significance_test"]
    for system in models:
        ours, theirs = ([*row["per_query"]["nDCG@10"].values()] for row in (system, bm25))
        assert system["against_bm25"]["difference"] == pytest.approx(np.mean(ours) - np.mean(theirs))
        if ours != theirs:
            assert system["against_bm25"]["p"] == pytest.approx(scipy.stats.ttest_rel(ours, theirs).pvalue)


def test_every_two_systems_are_compared_with_holms_correction(evaluation: Evaluation) -> None:
    record = evaluation.record()
    systems_ = {system["name"]: [*system["per_query"]["nDCG@10"].values()] for system in record["systems"]}
    compared = {(row["system"], row["minus"]): row for row in record["comparisons"]}
    names = [*systems_]
    assert [*compared] == [(names[b], names[a]) for a in range(4) for b in range(a + 1, 4)]
    p = {}
    for (system, other), row in compared.items():
        assert row["difference"] == pytest.approx(np.mean(systems_[system]) - np.mean(systems_[other]))
        same = systems_[system] == systems_[other]
        p[system, other] = 1.0 if same else scipy.stats.ttest_rel(systems_[system], systems_[other]).pvalue
        assert row["p"] == pytest.approx(p[system, other])
    for pair, row in compared.items():  # the definition: the largest over all hypotheses that Holm tests before
        before = [other for other in sorted(p, key=p.__getitem__) if p[other] <= p[pair]]
        steps = [(len(p) - sum(p[third] < p[other] for third in p)) * p[other] for other in before]
        assert row["p_holm"] == pytest.approx(min(1, max(steps)))
    assert record["systems"][1]["against_bm25"]["p_holm"] == compared[names[1], "BM25"]["p_holm"]


def test_the_table_has_the_figures_of_result_json_and_their_definitions(evaluation: Evaluation) -> None:
    table = drawn(Means([evaluation]))
    lines = table.splitlines()
    assert lines[0] == "small, test: 10 documents, 6 judged queries, 10 judgments"
    assert re.split(" {2,}", lines[2].strip()) == ["BM25", "tiny-en", "tiny-en, top 4", "tiny-en, min 0.5"]
    assert lines[3].split() == ["nDCG@10", *(f"{s.mean('nDCG@10'):.3f}" for s in evaluation.systems)]
    tiny = evaluation.record()["systems"][1]
    figures = {key: value for key, value in tiny.items() if isinstance(value, (int, float)) and key not in PRUNING}
    figures |= tiny["measures"] | tiny["against_bm25"]
    rows = {row.key: row for group in evaluation.rows().values() for row in group}
    assert {key: row.cells[1].value for key, row in rows.items()} == figures
    for row in rows.values():
        (line,) = (line for line in lines[3:] if line.startswith(f"{row.label}  "))
        assert re.split(" {2,}", line)[1:] == [cell.text for cell in row.cells if cell.text]
    for words in ("as trec_eval does; gain 2^grade - 1", "paired t-test", "8 bytes a posting", "k1 0.9"):
        assert words in table
    empty = "queries that retrieve nothing by BM25, counted as 0 (as by trec_eval -c): 1"
    assert empty in map(str, evaluation.caveats)


def test_two_models_of_one_name_are_an_error(collection: Collection, expander: Expander) -> None:
    for names in (["a", "a"], ["BM25"], ["a", "a, top 4"]):
        with pytest.raises(ValueError, match="must differ in name"):
            evaluate(collection, [expander] * len(names), [UNPRUNED, Pruning(top=4)], names=names)


def test_similar_names_get_different_runs(collection: Collection, expander: Expander, tmp_path: Path) -> None:
    found = evaluate(collection, [expander] * 4, names=["a b", "A-b", "é" * 300, "é" * 301])
    long = "é" * 55
    assert list(found.run_names().values()) == ["BM25.run", "a-b.run", "A-b~2.run", f"{long}.run", f"{long}~2.run"]
    found.save(tmp_path / "a new" / "folder")
    assert len({*(tmp_path / "a new" / "folder").iterdir()}) == 6


def test_prunings_that_differ_in_the_last_digit_have_runs_of_their_own(
    collection: Collection, expander: Expander
) -> None:
    weights = [0.5, 0.50000001, 0.5000001, 1e-7, 1.0, 1.0000000000000002]
    found = evaluate(collection, [expander], [Pruning(min_weight=weight) for weight in weights])
    assert len({*found.run_names().values()}) == len(weights) + 1
    assert found.model_systems[4].name == "tiny-en, min 1"


FULL = Path("/dev/full")


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_results_are_saved_although_nothing_can_be_printed(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "data", {"d": ("", "trout")}, {"q": "trout"}, {"q": {"d": 1}})
    with FULL.open("w") as full:
        done = subprocess.run(
            [*COMMAND, "eval", folder, "-o", tmp_path / "out", "--html", tmp_path / "r.html"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1 and "No space left" in done.stderr
    assert json.loads((tmp_path / "out" / "result.json").read_text())["systems"][1]["measures"]["MRR@10"] == 1
    assert len([*(tmp_path / "out").glob("*.run")]) == 6 and (tmp_path / "r.html").exists()
    with FULL.open("w") as full:
        done = subprocess.run([*COMMAND, "eval", folder], stderr=full, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0 and "nDCG@10" in done.stdout


@pytest.mark.slow
def test_any_locale_prints_any_name(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "sammlung-ü", {"d": ("", "trout")}, {"q": "trout"}, {"q": {"d": 1}})
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = run("eval", folder, "-o", tmp_path / "out", env=environment)
    assert done.returncode == 0 and done.stdout.startswith("sammlung-ü, test: 1 documents")
    assert json.loads((tmp_path / "out" / "result.json").read_text())["collection"]["name"] == "sammlung-ü"


IDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@pytest.mark.slow
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents=st.lists(IDS | st.text(max_size=3), min_size=2, max_size=4, unique=True), query=IDS | st.text())
def test_any_id_gives_the_right_figures_and_a_readable_run_or_an_error(
    documents: list[str], query: str, expander: Expander
) -> None:
    texts = dict.fromkeys(documents, "honey from bees") | {documents[0]: "trout"}
    try:
        collection = Collection("any", "test", texts, {query: "trout"}, {query: {documents[0]: 1}})
    except CollectionError:
        return
    found = evaluate(collection, [expander])
    for system in found.systems:
        assert {float(scores[0]) for scores in system.scores.values()} == {1.0}
    lines = "".join(found.trec_run(found.bm25)).encode().decode()
    parsed = pytrec_eval.parse_run(lines.splitlines(keepends=True))
    assert {key: [*row] for key, row in parsed.items()} == {query: [documents[0]]}


@pytest.mark.slow
def test_the_command_compares_models_and_prunings_and_writes_json_runs_and_report(tmp_path: Path) -> None:
    write_bundle(tmp_path / "other")
    options = ["--compare", "tiny-en", str(tmp_path / "other"), "--top", "4", "--top", "8", "--min-weight", "0.5"]
    done = run("eval", write_ms_marco(tmp_path / "m"), *options, "-o", tmp_path / "out", "--html", tmp_path / "r.html")
    assert done.returncode == 0, done.stderr
    assert "warning: queries without a judgment in this split, left out: 1\n" in done.stderr
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    names = [name + rest for name in ("tiny-en", "small") for rest in ("", ", top 4", ", top 8", ", min 0.5")]
    assert [system["name"] for system in result["systems"]] == ["BM25", *names]
    assert all(name in done.stdout for name in names) and result["collection"]["split"] == "dev.small"
    assert {"what": "queries without a judgment in this split, left out", "count": 1} in result["caveats"]
    assert len(list((tmp_path / "out").glob("*.run"))) == 9
    assert (tmp_path / "r.html").read_text().count("<h1>") == 1


@pytest.mark.slow
def test_the_command_takes_several_collections_measures_fusion_and_a_format(tmp_path: Path) -> None:
    folders = [write_beir(tmp_path / "a"), write_ms_marco(tmp_path / "b")]
    options = ["--measures", "AP", "P(rel=2)@5", "--fuse", "--fuse-weight", "0.7", "--query-top", "3"]
    options += ["--query-max-ratio", "0.5", "--max-ratio", "0.2", "-o", str(tmp_path / "out"), "--format", "csv"]
    done = run("eval", *folders, *options, "--html", tmp_path / "r.html")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(done.stdout.splitlines()))
    pruned = ["", ", ratio 0.2"]
    names = ["tiny-en" + d + q for d in pruned for q in ("", ", queries top 3", ", queries ratio 0.5")]
    fused = ["tiny-en + BM25, reciprocal rank", "tiny-en + BM25, weight 0.7"]
    assert [row["system"] for row in rows] == ["BM25", *names, *fused] * 2
    assert [row["collection"] for row in rows] == ["a"] * 9 + ["b"] * 9
    assert rows[0]["AP"] == rows[9]["AP"] and "nDCG@10" not in rows[0]
    means = json.loads((tmp_path / "out" / "means.json").read_text())["means"]
    assert means["BM25"]["AP"] == pytest.approx(float(rows[0]["AP"]))
    assert {path.name for path in tmp_path.glob("*.html")} == {"r-a.html", "r-b.html"}


@pytest.mark.slow
def test_in_a_terminal_the_tables_fit(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "a")
    lines = in_terminal("eval", str(folder), "--top", "4", "--top", "8", "--min-weight", "0.5", columns=60).splitlines()
    drawn = lines[next(at for at, line in enumerate(lines) if line.startswith("a, test")) :]
    assert max(map(len, drawn)) <= 60
    assert sum(line.startswith("nDCG@10 ") for line in drawn) > 1


@pytest.mark.slow
def test_a_damaged_collection_and_a_missing_split_are_one_line_and_exit_1(tmp_path: Path) -> None:
    for arguments in ([tmp_path], [write_beir(tmp_path / "b"), "--split", "dev"]):
        done = run("eval", *arguments)
        assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--top", "0"],
        ["--min-weight", "nan"],
        ["--model", "a", "--compare", "b"],
        ["--measures", "foo"],
        ["--max-ratio", "1.5"],
        ["--query-top", "x"],
        ["--fuse-weight", "0"],
        ["--format", "html"],
    ],
)
def test_a_wrong_option_is_exit_2(options: list[str]) -> None:
    assert run("eval", "folder", *options).returncode == 2


def test_the_command_line_loads_the_evaluation_only_when_it_runs() -> None:
    heavy = {"scipy", "bm25s", "ir_measures", "jinja2", "matplotlib"}
    code = f"import sys, spladerunner.cli.main as main; main.build_parser(); print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


@pytest.mark.slow
@pytest.mark.parametrize(("package", "options"), [("ir_measures", []), ("matplotlib", ["--html", "r.html"])])
def test_without_its_extra_the_command_says_what_to_install(tmp_path: Path, package: str, options: list[str]) -> None:
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('No module named x', name='{package}')")
    done = run("eval", write_beir(tmp_path / "b"), *options, env={"PYTHONPATH": str(tmp_path), "PATH": sys.prefix})
    assert done.returncode == 1
    assert "pip install 'spladerunner[eval]'" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_options_of_a_model_reach_every_model_that_is_compared(tmp_path: Path) -> None:
    write_bundle(tmp_path / "other")
    folder = write_beir(tmp_path / "b")
    short = run("eval", folder, "--compare", "tiny-en", tmp_path / "other", "--max-length", "3", "--threads", "1")
    assert short.returncode == 0, short.stderr
    lengths = next(line for line in short.stdout.splitlines() if line.startswith("weights per document")).split()
    full = run("eval", folder, "--model", "tiny-en")
    unlimited = next(line for line in full.stdout.splitlines() if line.startswith("weights per document")).split()
    assert float(lengths[4]) < float(unlimited[4])
    assert run("eval", folder, "--compare", "tiny-en", tmp_path / "other", "--max-length", "99999").returncode == 2
    assert run("eval", folder, "--provider", "NoSuchProvider").returncode == 1
