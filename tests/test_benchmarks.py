"""Benchmarks on small inputs: how runs are checked, counted and shown. No test depends on a speed."""

from __future__ import annotations

import itertools
import json
import math
import pickle
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from benchmarks import (
    callers,
    cold_start,
    environments,
    gpu,
    harness,
    latency,
    long_texts,
    memory,
    pace,
    plot,
    scale,
    scale_jobs,
    scaling,
    size,
    systems,
    tables,
    throughput,
    vocabulary,
    workers,
    workload,
)
from benchmarks.harness import (
    HERE,
    in_rounds,
    markdown_table,
    run_job,
    save_result,
    spread,
    write_records,
)
from benchmarks.lab import invariance, levers, share
from benchmarks.lab.sessions import open_session
from benchmarks.lab.variants import build_masked
from benchmarks.throughput import check_agreement
from benchmarks.workers import Encoded, SystemFailedError, Workers
from spladerunner import Expander, SparseVector
from spladerunner.distributed.worker import TableEncoder, WorkerModel
from spladerunner.inference.providers import CPU
from spladerunner.inference.tokenizer import Tokenizer
from tests.conftest import ROOT
from tests.small_model import SmallGraph, write_bundle

PYTHON = Path(sys.executable)
PEERS = ("datasets", "fastembed", "matplotlib", "openvino", "optimum", "sentence_transformers", "torch", "transformers")
COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in HERE.rglob("*.py")
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)


@pytest.fixture
def job(tmp_path: Path) -> dict[str, object]:
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps({"mixed": ["the cat", "river bank"]}))
    bundle = str(write_bundle(tmp_path / "bundle"))
    return {
        "system": "spladerunner",
        "texts": str(texts),
        "lists": ["mixed"],
        "bundle": bundle,
        "max_length": 16,
        "threads": 1,
    }


# Commands


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_help_needs_no_peer(command: str) -> None:
    code = (
        "import runpy, sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name in {PEERS}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        f"sys.argv = [{command!r}, '--help']\n"
        f"runpy.run_module({command!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
    assert command in done.stdout or command.replace(".", "/") + ".py" in done.stdout


def test_make_bench_runs_every_command() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    target = re.search(r"^bench: .*?\n\n", makefile, re.MULTILINE | re.DOTALL)
    assert target
    others = {"benchmarks.gpu", "benchmarks.systems", "benchmarks.sentence_transformers_models", "benchmarks.quality"}
    others |= {"benchmarks.scale", "benchmarks.scale_jobs"}  # make bench-scale
    others.add("benchmarks.windows")  # of make quality
    others.add("benchmarks.gte_model")  # of long_texts
    missing = {
        command
        for command in set(COMMANDS) - others
        if not re.search(rf"\b{re.escape(command.removeprefix('benchmarks.'))}\b", target[0])
    }
    assert missing == set()


# Results and tables


RECORDS = tables.read_records()
BLOCKS = [(page, block) for page in tables.PAGES for block in tables.marked((ROOT / page).read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_pages_show_what_the_records_give(page: str, block: str) -> None:
    if missing := tables.BLOCKS[block].missing(RECORDS):
        pytest.skip(f"not measured: {', '.join(missing)}")
    text = (ROOT / page).read_text(encoding="utf-8")
    (shown,) = (match[3] for match in tables.MARKED.finditer(text) if match[2] == block)
    assert shown.strip() == tables.BLOCKS[block].text(RECORDS).strip(), "run python -m benchmarks.tables"


def test_every_block_is_on_a_page() -> None:
    assert {block for _, block in BLOCKS} == tables.BLOCKS.keys()


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_tells_its_origin_and_has_raw_samples(name: str) -> None:
    record = RECORDS[name]
    assert "command" in record, f"{name} was not written by save_result"
    assert re.match(r"python -m benchmarks\.\w+", record["command"])
    assert name.startswith("gpu") or re.fullmatch("[0-9a-f]{40}", record["commit"])
    assert record["machine"].keys() >= {"processor", "flags", "cores", "memory_gib", "kernel", "python"}
    assert all("numpy" in environment for environment in record["versions"].values())
    assert record["time"].endswith("+00:00") and record["result"] not in (None, [], {})


def test_the_memory_of_a_record_is_in_whole_kilobytes() -> None:
    """The kernel reports kilobytes, and the command divides them by 1024."""
    for rounds in RECORDS.get("memory", {"result": {}})["result"].values():
        for peaks in rounds:
            assert all((1024 * peak).is_integer() for peak in peaks.values())


UNITS = r"ms\b|µs|GOP/s|docs/s|(?:documents|texts|queries) (?:and core )?a second|(?:times|×) (?:as|faster|the speed)"
WORDS = "half|third|quarter|fifth|sixth|seventh|eighth|ninth|tenth|twice|twofold"
FIGURE = re.compile(
    rf"\d[\d.,]*\s*(?:{UNITS})"
    rf"|\b(?:{WORDS})\b[^.|]{{0,24}}\b(?:a second|the speed|as fast)"
    r"|\b(?:two|three|four|five|six|seven|eight|nine|ten) times (?:as fast|faster)"
)
PAGES_WITH_FIGURES = [
    path
    for pattern in ("README.md", "CHANGELOG.md", "benchmarks/**/*.md", "docs/**/*.md")
    for path in sorted(ROOT.glob(pattern))
]


@pytest.mark.parametrize("page", PAGES_WITH_FIGURES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_speed_is_stated_that_no_command_made(page: Path) -> None:
    text = tables.MARKED.sub("", page.read_text(encoding="utf-8"))
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    assert FIGURE.findall(" ".join(prose.split())) == []


AMOUNT = re.compile(r"\d[\d.,]* ?(?:MB|GB|MiB|GiB|%|×|ms)")


@pytest.mark.parametrize("page", ["README.md", "benchmarks/README.md", "benchmarks/lab/README.md"])
def test_no_amount_is_stated_that_no_command_made(page: str) -> None:
    """But for the size of the embedded pair, which tests/test_docs.py compares with its files."""
    text = tables.MARKED.sub("", (ROOT / page).read_text(encoding="utf-8"))
    assert [found for found in AMOUNT.findall(text) if (page, found) != ("README.md", "11.1 MB")] == []


@pytest.mark.parametrize(
    "sentence",
    ["a run takes 47 ms", "1.7 µs a page", "3.4 times faster", "350 texts a second", "within a tenth of the speed"],
)
def test_a_speed_in_a_sentence_is_noticed(sentence: str) -> None:
    assert FIGURE.search(sentence)


def test_blocks_of_missing_records_are_left_as_they_were() -> None:
    page = "<!-- figures: memory -->\nold\n<!-- end --> <!-- figures: latency -->\nold\n<!-- end -->"
    peaks = {"before": 59.0, "1": 122.0}
    memory_record = {"command": "python -m benchmarks.memory", "result": {name: [peaks] for name in memory.DOCUMENTS}}
    found = tables.rewrite(page, {"memory": memory_record})
    assert "| embedded pair | 59 | 122 |" in found and found.endswith("<!-- figures: latency -->\nold\n<!-- end -->")


def test_a_saved_result_replaces_only_its_own_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["memory.py", str(tmp_path / "shared"), ".bench"])
    path = tmp_path / "results.json"
    write_records({"a": {"result": 1}, "b": {"result": 2}}, path)
    save_result("b", [3.5], path)
    records = json.loads(path.read_text())
    assert records["a"] == {"result": 1}
    assert records["b"]["result"] == [3.5]
    assert records["b"]["command"].endswith("shared .bench"), "without folders of the machine"
    assert records["b"]["commit"] is None or len(records["b"]["commit"]) == 40
    assert records["b"]["machine"]["cores"] >= 1
    (environment,) = records["b"]["versions"].values()
    assert environment["numpy"] == np.__version__


def with_paces(monkeypatch: pytest.MonkeyPatch, *paces: float) -> None:
    remaining = iter(paces)
    monkeypatch.setattr(pace, "measure", lambda: next(remaining))
    monkeypatch.setattr(harness, "ROUNDS_OF_PROCESS", [])


def test_measurements_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    with_paces(monkeypatch, 1.0, 1.05, 1.0)
    order: list[str] = []

    def measurement(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = in_rounds({"a": partial(measurement, "a"), "b": partial(measurement, "b")}, rounds=2)
    assert order == ["a", "b", "a", "b"]
    assert found == {"a": [1, 3], "b": [2, 4]}


def test_disturbed_rounds_are_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds 2 and 3 stand beside the pace of 1.5."""
    with_paces(monkeypatch, 1.0, 1.0, 1.5, 1.05, 1.0)
    samples = itertools.count(1)
    assert in_rounds({"a": lambda: next(samples)}, rounds=2) == {"a": [1, 4]}
    assert [(each.pace, each.kept) for each in harness.ROUNDS_OF_PROCESS] == [
        (1.0, True),
        (1.5, False),
        (1.5, False),
        (1.05, True),
    ]


def test_the_quietest_rounds_are_kept_where_too_few_are_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    with_paces(monkeypatch, 2.0, 1.4, 1.0, 1.3, 1.2)
    samples = itertools.count(1)
    assert in_rounds({"a": lambda: next(samples)}, rounds=2) == {"a": [3, 4]}  # beside 2.0, 1.4, 1.3 and 1.3


def test_the_pace_is_that_of_fixed_work() -> None:
    assert 0 < pace.measure() < math.inf
    assert pace.disturbed(1.2, fastest=1.0) and not pace.disturbed(1.05, fastest=1.0)


def test_spread_is_relative_to_the_median() -> None:
    assert spread([1, 2, 3]) == 1
    assert spread([4, 4]) == 0


def test_markdown_table() -> None:
    assert markdown_table(["x", "y"], [[1, "a"]]) == "| x | y |\n| --- | --- |\n| 1 | a |"


# Throughput


@pytest.mark.slow
def test_vectors_are_compared_with_the_reference(job: dict[str, object], tmp_path: Path) -> None:
    saved = tmp_path / "reference.npz"
    assert "failed" not in run_job(PYTHON, {**job, "save": str(saved)})
    figures = run_job(PYTHON, {**job, "agree": str(saved)})
    assert figures["mean_cosine"] == pytest.approx(1)
    assert check_agreement(figures, "float32") == figures
    with np.load(saved) as vectors:
        wrong = {name: array[::-1] if name.endswith("v") else array for name, array in vectors.items()}
    np.savez(saved, **wrong)
    figures = check_agreement(run_job(PYTHON, {**job, "agree": str(saved)}), "int8")
    assert figures["failed"].startswith("wrong: mean cosine")


def test_a_rate_is_that_of_the_fastest_repetition(
    job: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Loading takes from 10 to 13 s, and three repetitions of two texts 2, 0.5 and 4 s."""
    clock = iter([10.0, 13.0, 20.0, 22.0, 30.0, 30.5, 40.0, 44.0])
    monkeypatch.setattr(systems, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(sys, "argv", ["systems", json.dumps({**job, "repeat": 3})])
    systems.main()
    figures = json.loads(capsys.readouterr().out)
    assert (figures["load_seconds"], figures["docs_per_second"]) == (3.0, {"mixed": 4.0})


def test_a_failed_run_gives_its_reason(job: dict[str, object]) -> None:
    figures = run_job(PYTHON, {**job, "bundle": "/nowhere"})
    assert "/nowhere" in figures["failed"]


def test_a_run_that_takes_too_long_fails(job: dict[str, object]) -> None:
    assert run_job(PYTHON, job, timeout=0.01) == {"failed": "not done after 0 s"}


def workers_of(job: dict[str, object], processes: int = 1) -> Workers:
    return Workers(PYTHON, job, processes)


@pytest.mark.slow
def test_processes_share_a_list_by_length_and_are_compared_with_the_reference(
    job: dict[str, object], tmp_path: Path
) -> None:
    texts = ["the cat", "river", "dog sat the river bank", "bank money run"]
    (tmp_path / "texts.json").write_text(json.dumps({"mixed": texts}))
    saved = str(tmp_path / "reference.npz")
    assert "failed" not in run_job(PYTHON, {**job, "save": saved})
    with workers_of(job, processes=2) as workers:
        found = workers.encode(texts, saved)
        assert found.seconds > 0 and workers.peak_mb > 20
        assert found.cosines == pytest.approx([1] * 4)
        assert workers.encode(texts).cosines == []
        assert workers.encode(texts[::-1], saved).cosines != pytest.approx([1] * 4), "texts of other positions"


def test_workers_that_end_tell_why(job: dict[str, object]) -> None:
    with pytest.raises(SystemFailedError, match="nowhere"):
        workers_of({**job, "bundle": "/nowhere"}).close()


def test_workers_that_hang_are_ended(job: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "TIMEOUT", 0.01)
    with pytest.raises(SystemFailedError, match="exit status -9"):
        workers_of(job).close()


def test_reasons_of_failures_name_no_folder_of_the_machine() -> None:
    assert harness.reason("Traceback\nOSError: /home/me/.bench/st/model.onnx is missing\n", 1) == (
        "OSError: model.onnx is missing"
    )
    assert harness.reason("", -9) == "exit status -9"


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "processes", "first"), [(1, 2, 2), (3, 1, 3)])
def test_the_longest_texts_run_untimed_before_a_timed_list(
    job: dict[str, object], batch: int, processes: int, first: int
) -> None:
    encoded = []

    class Recorded(Workers):
        def encode(self, texts: Any, reference: str = "") -> Encoded:
            encoded.append([*texts])
            return Encoded(float(len(encoded)), [])

    texts = ["a", "the cat sat", "dog", "river bank"]
    with Recorded(PYTHON, {**job, "batch": batch}, processes) as workers:
        workers._at_once = min(workers._at_once, first)  # without the cores of this machine
        assert workers.seconds(texts) == 2.0
    assert sorted(encoded[0], key=len) == sorted(texts, key=len)[-first:] and encoded[1] == texts


@pytest.mark.slow
def test_the_best_setting_of_each_list_runs_in_rounds(
    job: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With clocks by which one setting is faster for each list."""
    with_paces(monkeypatch, *[1.0] * 6)
    seconds = {("a", 2): 1.0, ("a", 1): 4.0, ("b", 2): 2.0, ("b", 1): 3.0}

    class Clocked(Workers):
        def encode(self, texts: Any, reference: str = "") -> Encoded:
            return Encoded(seconds[self.name, len(texts)], super().encode(texts, reference).cosines)

        def __init__(self, python: Path, job: Any, processes: int = 1) -> None:
            self.name = job["name"]
            super().__init__(python, job, processes)

    monkeypatch.setattr(throughput, "Workers", Clocked)
    saved = str(tmp_path / "reference.npz")
    assert "failed" not in run_job(PYTHON, {**job, "save": saved})
    settings = {
        "spladerunner": [throughput.Setting(name, PYTHON, "int8", {**job, "name": name}) for name in "ab"],
        "broken": [throughput.Setting("c", PYTHON, "int8", {**job, "name": "c", "bundle": "/nowhere"})],
    }
    lists = {"mixed": ["the cat", "river bank"], "short": ["dog"]}
    found = throughput.measure_lists(settings, lists, saved, copies=1, rounds=5)
    assert found["rounds"] == {
        "spladerunner": {
            "mixed": {"setting": "a", "seconds": [1.0] * 5},
            "short": {"setting": "b", "seconds": [3.0] * 5},
        }
    }
    assert found["texts"] == {"mixed": 2, "short": 1}
    assert "nowhere" in found["sweep"]["broken"]["c"]["failed"]


def measured_throughput() -> list[dict[str, Any]]:
    """Of 12 texts, ours in 1, 2 and 3 s, a peer in 4, 4 and 5 s, or in 1.5 s if they are short; one failed."""

    def figures(mixed: float, short: float) -> dict[str, Any]:
        return {"seconds": {"mixed": mixed, "short": short}, "peak_mb": 300.4, "mean_cosine": 0.99, "load_seconds": 1.0}

    def rounds(setting: str, *seconds: float) -> dict[str, Any]:
        return {"setting": setting, "seconds": list(seconds)}

    return [
        {
            "texts": {"mixed": 12, "short": 12},
            "sweep": {
                "spladerunner": {"2 threads": figures(2.0, 2.0)},
                "peer": {"batch 1": figures(4.0, 2.0), "batch 8": figures(6.0, 1.5)},
                "broken": {"batch 1": {"failed": "ValueError: no such model"}},
            },
            "rounds": {
                "spladerunner": {"mixed": rounds("2 threads", 1.0, 2.0, 3.0), "short": rounds("2 threads", 2.0)},
                "peer": {"mixed": rounds("batch 1", 4.0, 4.0, 5.0), "short": rounds("batch 8", 1.5)},
            },
        }
    ]


def test_each_column_has_the_best_setting_of_each_system() -> None:
    lines = throughput.report("small", measured_throughput()).splitlines()
    assert "| spladerunner | 6.00 | 6.00 | 133% | 300 | 0.9900 |" in lines  # 12, 6 and 4 a second
    assert "| peer | 3.00 | 8.00 | 20% | 300 | 0.9900 |" in lines
    assert "| peer | 2.00 | 0.75 |" in lines
    assert "| peer | batch 1 | batch 8 |" in lines
    assert "| peer | batch 8 | 2.00 | 8.00 |" in lines
    assert "| broken | failed | failed |  |  |  |" in lines
    assert lines[-1] == "broken failed: ValueError: no such model"


def test_systems_of_each_precision_run_beside_spladerunner() -> None:
    def setting(weight_type: str) -> list[throughput.Setting]:
        return [throughput.Setting("batch 1", PYTHON, weight_type, {})]

    settings = {"spladerunner": setting("int8"), "a": setting("float32"), "b": setting("int8")}
    assert [[*group] for group in throughput.apart(settings)] == [["spladerunner", "a"], ["spladerunner", "b"]]


def test_a_ratio_is_that_of_the_same_rounds() -> None:
    """Ours takes 1 s beside one group of peers and 3 s beside the other."""

    def part(peer: str, own_seconds: float) -> dict[str, Any]:
        rounds = {"spladerunner": own_seconds, peer: 6.0}
        return {
            "texts": {"mixed": 12},
            "sweep": {},
            "rounds": {name: {"mixed": {"setting": "", "seconds": [taken]}} for name, taken in rounds.items()},
        }

    parts = [part("a", 1.0), part("b", 3.0)]
    found = throughput.ratios(parts)
    assert (found["a"], found["b"]) == ({"mixed": 6.0}, {"mixed": 2.0})
    assert throughput.speeds(parts)["spladerunner"] == {"mixed": [12.0, 4.0]}


MACHINE = {"processor": "EPYC", "flags": [], "cores": 2}
SECOND_MACHINE = {"processor": "Xeon", "flags": ["amx_int8"], "cores": 4}


def measured_on_two_machines() -> dict[str, dict[str, Any]]:
    """Records of all shapes. On the second machine, the peer takes 1 s with short texts in place of 1.5 s."""
    second = measured_throughput()
    second[0]["rounds"]["peer"]["short"]["seconds"] = [1.0]
    first = {throughput.record_name(shape): measured_throughput() for shape in workload.SHAPES}
    return {name: {"machine": MACHINE, "result": result} for name, result in first.items()} | {
        throughput.record_name(shape, "AMX"): {"machine": SECOND_MACHINE, "result": second} for shape in workload.SHAPES
    }


def test_peers_that_are_ahead_are_named_for_each_machine() -> None:
    first, second = tables.peers_ahead(measured_on_two_machines()).splitlines()[2:]
    cases = ", ".join(f"{shape} short ({{0}})" for shape in workload.SHAPES)
    assert first == f"- EPYC, 2 cores: peer: {cases.replace('{0}', '1.33')}."
    assert second == f"- Xeon with AMX_INT8, 4 cores: peer: {cases.replace('{0}', '2.00')}."


def test_models_that_a_machine_did_not_run_are_named_beside_the_peers_ahead() -> None:
    records = measured_on_two_machines()
    del records["throughput bert-tiny on AMX"]
    *_, first, second = tables.peers_ahead(records).splitlines()
    assert "not measured" not in first
    assert second.startswith("- Xeon with AMX_INT8, 4 cores (bert-tiny not measured): peer: bert-base short (2.00)")


def test_other_machines_have_their_tables() -> None:
    records = measured_on_two_machines()
    lines = tables.other_machines(records).splitlines()
    assert lines[0] == "### AMX" and lines[2] == "Xeon with AMX_INT8, 4 cores."
    assert lines.count("| peer | 2.00 | 0.50 |") == len(workload.SHAPES)
    assert lines.count("| peer | 2.00 | 0.75 |") == 0
    first = {name: record for name, record in records.items() if not name.endswith("AMX")}
    assert tables.other_machines(first) == ""
    assert tables.peers_ahead(first).count("EPYC") == 1


def test_the_chart_has_a_bar_for_each_system() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    plot.draw_throughput(axes, "small", measured_throughput())
    assert [text.get_text() for text in axes.texts] == ["3.0", "6.0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["peer", "spladerunner"]


def test_goals_are_evaluated() -> None:
    base = measured_throughput()
    base[0]["rounds"]["FastEmbed"] = base[0]["rounds"].pop("peer")
    records: dict[str, dict[str, Any]] = {
        "throughput bert-base": {"result": base},
        "cold start": {"result": {"processes": {name: [1.0, 1.2, 9.0] for name in cold_start.PROCESSES}}},
        "memory": {"result": {name: [{"1000": 149.0, "10000": 149.6}] for name in memory.DOCUMENTS}},
        "size": {"result": {"installed": {size.OWN: {"numpy": 150.0, "tokenizers": 41.0}}}},
        tables.SHARE: {"result": {"documents": [7.0], "product": [10.0]}},
    }
    lines = tables.goals(records).splitlines()
    assert "| BERT-base, mixed lengths: 4 × FastEmbed | 2.00 | missed |" in lines
    assert "| start, embedded pair, a document: at most 1.3 × the import of its libraries | 1.00 | met |" in lines
    assert "| peak memory, embedded pair: at most 150 MB | 149.6 MB | met |" in lines
    assert "| installation: at most 190 MB | 191 MB | missed |" in lines
    assert "| BERT-base, 128 tokens: 70 % of the machine's int8 products | 70% | met |" in lines


# GPU, here on the CPU provider


@pytest.mark.slow
def test_batches_of_the_benchmark_give_the_vectors_of_the_expander(tmp_path: Path, job: dict[str, object]) -> None:
    texts = ["the cat", "river bank", ""]
    (tmp_path / "texts.json").write_text(json.dumps({"mixed": texts}))
    pooled = SmallGraph(seed=1).save(tmp_path / "pooled.onnx", pools_inside=True)
    batched = {"system": "spladerunner batches", "graph": str(pooled), "tokenizer": job["bundle"], "provider": CPU}
    saved = tmp_path / "batched.npz"
    assert "failed" not in run_job(PYTHON, {**job, **batched, "save": str(saved)})
    expected = Expander(str(job["bundle"]), 16).encode(texts)
    with np.load(saved) as vectors:
        for at, vector in enumerate(expected):
            assert vectors[f"{at}-i"].tolist() == vector.indices.tolist()
            np.testing.assert_allclose(vectors[f"{at}-v"], vector.values, atol=1e-5)


def test_the_share_of_the_limit_compares_texts_with_a_product(tmp_path: Path, job: dict[str, object]) -> None:
    pooled = SmallGraph(seed=1).save(tmp_path / "pooled.onnx", pools_inside=True)
    product = gpu.write_product(tmp_path, float16=False)
    shape = {"batch": 3, "max_length": 8, "size": 16, "provider": CPU}
    figures = run_job(
        PYTHON, {**job, "system": "share of limit", "graph": str(pooled), "product": str(product), **shape}
    )
    assert set(figures["docs_per_second"]) == {"texts", "product"}


@pytest.mark.slow
def test_a_graph_that_selects_the_largest_weights_is_compared_with_the_one_that_gives_all(
    tmp_path: Path, job: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts.json").write_text(json.dumps({"mixed": ["the cat sat", "river bank money"]}))
    pooled = SmallGraph(seed=1).save(tmp_path / "pooled.onnx", pools_inside=True)
    shares = []
    for largest in (3, 1000):
        monkeypatch.setattr(gpu, "LARGEST", largest)
        selecting = gpu.write_selecting_graph(pooled)
        more = {"graph": str(pooled), "selecting": str(selecting), "tokenizer": job["bundle"]}
        shape = {"lists": ["mixed"], "batch": 3, "max_length": 8, "provider": CPU}
        figures = run_job(PYTHON, {**job, "system": "selection", **more, **shape})
        assert set(figures["docs_per_second"]) == {"all", "selected"}
        shares.append(figures["kept"])
    expected = Expander(str(job["bundle"]), 8).encode(["the cat sat", "river bank money", "the cat sat"])
    three, whole = (sum(np.sort(vector.values)[-most:].sum() for vector in expected) for most in (3, 1000))
    assert shares == pytest.approx([three / whole, 1], abs=1e-5)


def test_a_peer_that_cannot_be_installed_is_a_failure_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(_: Path, name: str) -> Path:
        if name == "sentence-transformers-flash-gpu":
            raise subprocess.CalledProcessError(1, "pip")
        return tmp_path / name

    figures = {"docs_per_second": {"collection": 2.0}, "peak_mb": 900.0, "mean_cosine": 1.0}
    jobs: list[Any] = []

    def run(python: Path, job: Any) -> Any:
        jobs.append((python.name, job))
        return figures

    monkeypatch.setattr(gpu, "python_of", install)
    monkeypatch.setattr(gpu, "gpu_python", lambda _: tmp_path / "own")
    monkeypatch.setattr(gpu, "write_graph", lambda models, float16: models / f"float16 {float16}")
    monkeypatch.setattr(gpu, "write_reference", lambda *_: "reference")
    monkeypatch.setattr(gpu, "run_job", run)
    result = gpu.measure(tmp_path, "distilbert", "CUDAExecutionProvider", rounds=1)
    assert result["best"]["FastEmbed"] == "batch 32"
    assert gpu.report("distilbert", result).splitlines()[-1] == f"{gpu.UNPADDED} failed: pip cannot install it here"
    assert {name for name, _ in jobs} == {"own", "fastembed-gpu", "sentence-transformers-gpu"}
    assert {job["type"] for _, job in jobs if "type" in job} == {"float16"}


def test_the_benchmark_of_a_card_as_a_whole_on_the_cpu_provider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared: list[Any] = []
    figures = {"docs_per_second": {"short": 3.0}, "peak_mb": 900.0, "mean_cosine": 1.0}
    result = {"sweep": {}, "best": {"spladerunner": "its own batches"}, "rounds": {"spladerunner": [figures]}}
    monkeypatch.setattr(gpu, "prepare", lambda *given: prepared.append(given))
    monkeypatch.setattr(gpu, "write_sentence_transformers_models", lambda *_, int8: prepared.append(int8))
    monkeypatch.setattr(gpu, "measure", lambda folder, shape, provider, rounds: {**result, "rounds of": rounds})
    monkeypatch.setattr(gpu, "speedup_of_selection", lambda *_: {"speedup": 0.5, "kept": 0.997})
    monkeypatch.setattr(gpu, "share_of_limit", lambda *_: {"texts": 3.0, "product": 4.0})
    monkeypatch.setattr(gpu, "save_result", None)  # figures of a CPU are not saved
    monkeypatch.setattr(sys, "argv", ["gpu", str(tmp_path), str(tmp_path), "--provider", CPU, "tiny-en", "distilbert"])
    gpu.main()
    assert prepared == [(tmp_path, tmp_path, ["tiny-en", "distilbert"]), False, False]
    printed = capsys.readouterr().out
    assert "### tiny-en" in printed and "| spladerunner | its own batches | 3 | 1.00 |" in printed
    assert "tiny-en: the largest 512 weights, selected in the graph: 0.50 times, 99.7% kept" in printed
    assert [line for line in printed.splitlines() if "of a large product" in line] == [
        "distilbert at 128 tokens: 75% of the rate of a large product"
    ]


def test_the_table_of_a_card_divides_by_the_peers_median() -> None:
    def figures(speed: float) -> dict[str, Any]:
        return {"docs_per_second": {"collection": speed}, "peak_mb": 900.0, "mean_cosine": 0.99996}

    result = {
        "sweep": {"spladerunner": {}, "FastEmbed": {"batch 32": {"failed": "no card"}}},
        "best": {"spladerunner": "its own batches", "peer": "batch 64"},
        "rounds": {"spladerunner": [figures(300), figures(360)], "peer": [figures(150), figures(70)]},
    }
    lines = gpu.report("bert-base", result).splitlines()
    assert "| spladerunner | its own batches | 330 | 1.00 | 18% | 900 | 1.0000 |" in lines
    assert "| peer | batch 64 | 110 | 3.00 | 73% | 900 | 1.0000 |" in lines
    assert lines[-1] == "FastEmbed failed: no card"


# Measurements


def test_stages_of_a_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which a stage takes one second more than the one before, without the two texts of the warm-up."""
    clock = itertools.accumulate(itertools.count())
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    bundle = write_bundle(tmp_path / "bundle")
    found = latency.measure(bundle, bundle / "query.onnx", ["the cat", "river bank"])
    laps = len(latency.STAGES) + 1
    assert found == {name: [2 * laps + at, 3 * laps + at] for at, name in enumerate(latency.STAGES, 1)}


CLOCK = """
import time
now = 0.0
def take(seconds):
    global now
    now += seconds
time.perf_counter = lambda: now
"""
"""A sitecustomize that sets a clock which stands still but for what `take` adds."""

EXPANDER = """
from sitecustomize import take
take(8)
class Expander:
    def __init__(self, model):
        take(16)
    def encode(self, texts):
        take(32 * len([texts] if isinstance(texts, str) else texts))
    async def aencode(self, text):
        take(32)
    def expand(self, text):
        take(64)
"""


@pytest.fixture
def slow_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages in the place of what a start imports, of which each step takes another time on a clock of their own."""
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "sitecustomize.py").write_text(CLOCK)
    (packages / "spladerunner.py").write_text(EXPANDER)
    for name, seconds in {"numpy": 1, "tokenizers": 2, "onnxruntime": 4}.items():
        (packages / f"{name}.py").write_text(f"from sitecustomize import take\ntake({seconds})\n")
    monkeypatch.setenv("PYTHONPATH", str(packages))


@pytest.mark.usefixtures("slow_packages")
def test_each_stage_of_a_start_is_timed_by_itself(tmp_path: Path) -> None:
    assert list(cold_start.stage_seconds(PYTHON, tmp_path).values()) == [1 + 2 + 4, 8, 16, 32, 64]


@pytest.mark.slow
def test_stages_of_a_start(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    found = cold_start.stage_seconds(PYTHON, bundle)
    assert list(found) == list(cold_start.STAGES)
    start = cold_start.start_seconds(PYTHON, f"import time; time.sleep(0.2); {cold_start.libraries_code(bundle)}")
    assert start > 0.2


@pytest.mark.torch
def test_export_without_verification_is_the_export(shared: Path, tmp_path: Path) -> None:
    texts = ["The Manhattan Project and its atomic bomb helped bring an end to World War II.", "a"]
    bundle = workload.write_bundle(shared / "tiny-en" / "doc", tmp_path / "tiny-en")
    assert Expander(bundle).encode(texts) == Expander().encode(texts)
    assert workload.write_bundle(tmp_path / "not read", tmp_path / "tiny-en") == bundle, "a bundle is kept"

    workload.write_graph_for_0_1(tmp_path / "tiny-en")
    workload.write_graphs_for_512_tokens(tmp_path / "tiny-en")
    for name, length in (("splade-0.1", 256), ("splade-0.1-512", 512)):
        folder = tmp_path / "tiny-en" / name / "Splade_PP_en_v1"
        graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
        assert {given.name for given in graph.input} == {"input_ids", "input_mask", "segment_ids"}
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        assert config["model_max_length"] == length

    apart = open_session(build_masked(tmp_path / "tiny-en", tmp_path / "apart"))
    assert "attention_mask" in {given.name for given in apart.get_inputs()}
    text = levers.random_text(20)
    expected = levers.pool(open_session(bundle / "doc.onnx"), text)
    np.testing.assert_allclose(levers.pool(apart, text), expected, atol=0.1)


def test_texts_of_each_kind(shared: Path) -> None:
    documents = [{"title": f"title {n}", "text": "word " * n} for n in (50, 120, 350)] * 20
    documents.insert(0, {"title": "short one", "text": ""})
    texts = workload.choose_texts(documents, shared / "data" / "bert-base-uncased-vocab.txt")
    assert texts["short"][:2] == ["short one", "title 50"] and len(texts["short"]) == 32
    assert all(text.startswith("title 120 ") for text in texts["typical"]) and len(texts["typical"]) == 16
    assert all(text.startswith("title 350 ") for text in texts["cut at 256"])
    assert sorted(texts["mixed"]) == sorted(texts["short"][:8] + texts["typical"][:8] + texts["cut at 256"])
    assert texts["cut at 512"] == [f"{text} {text}" for text in texts["cut at 256"][:4]]
    assert len(texts["collection"]) == 61


@pytest.mark.slow
def test_peak_memory(tmp_path: Path) -> None:
    bundle, texts = write_bundle(tmp_path / "bundle"), tmp_path / "texts.jsonl"
    texts.write_text('{"text": "the cat"}\n{"text": "river bank"}\n')
    found = memory.measure(PYTHON, str(bundle), texts, count=3)  # starts again at the end of the file
    assert list(found) == ["before", "1", "3"]
    assert 10 < found["before"] <= found["1"] <= found["3"]


@pytest.mark.slow
def test_peak_memory_of_long_texts(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    assert 10 < long_texts.measure(PYTHON, bundle, 16) < 1000
    lists = json.loads(long_texts.write_texts(tmp_path / "texts.json").read_text())
    assert {name: len(texts) for name, texts in lists.items()} == {"1": 1, "4": 4, "16": 16}
    table = long_texts.report({"spladerunner": {"8192": [501.0, 500.4, 499.0]}, "fastembed": {"16": [1500.0]}})
    assert "| 1 text of 8,192 tokens | 500 |" in table and "| 16 × 512 tokens | 1500 |" in table
    assert "| 256 × 512 tokens, its default | over 15261: the logits |" in table


@pytest.mark.slow
def test_processes_encode_side_by_side(tmp_path: Path) -> None:
    """The slowest counts: programs in Python's place say that they took 1, 2 and 4 s."""
    bundle, texts = write_bundle(tmp_path / "bundle"), tmp_path / "texts.json"
    texts.write_text(json.dumps({"collection": ["the cat", "river bank"]}))
    assert math.isfinite(scaling.speed_of_processes(PYTHON, bundle, texts, 2, processes=2))
    program = tmp_path / "python"
    take = f"n=1; until mkdir '{tmp_path}/'$n 2>/dev/null; do n=$((n * 2)); done"
    program.write_text(f"#!/bin/sh\n{take}\necho ready\nread line\necho $n\n")
    program.chmod(0o755)
    assert scaling.speed_of_processes(program, bundle, texts, 20, processes=3) == 3 * 20 / 4


@pytest.mark.usefixtures("slow_packages")
@pytest.mark.parametrize("kind", [callers.LIST, *callers.KINDS])
def test_the_rate_of_callers_is_that_of_all_their_documents(tmp_path: Path, kind: str) -> None:
    """A document takes 32 s, and none runs beside another, on the clock of these packages."""
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps({"collection": ["the cat", "river bank", "dog", "not one of the first three"]}))
    found = callers.measure(PYTHON, "a model", texts, kind, callers=2, count=3)
    assert found["docs_per_second"] == 3 / (3 * 32)
    if kind == callers.KINDS[1]:
        assert found["p50"] == found["p99"] == 32


@pytest.mark.slow
@pytest.mark.parametrize("kind", [callers.LIST, *callers.KINDS])
def test_callers_share_the_documents(tmp_path: Path, kind: str) -> None:
    bundle, texts = write_bundle(tmp_path / "bundle"), tmp_path / "texts.json"
    texts.write_text(json.dumps({"collection": ["the cat", "river bank", "dog"]}))
    found = callers.measure(PYTHON, str(bundle), texts, kind, callers=2, count=3)
    assert 10 < found["peak_mb"] < 500
    assert (found["p99"] is None) == (kind == callers.LIST)


def test_callers_are_compared_with_one_list() -> None:
    rounds = [{"docs_per_second": speed, "p50": 0.002, "p99": 0.003, "peak_mb": 50.0} for speed in (90.0, 110.0, 80.0)]
    one_list = {"docs_per_second": 100.0, "p50": None, "p99": None, "peak_mb": 40.0}
    table = callers.report({**dict.fromkeys(callers.SETTINGS, rounds), callers.LIST: [one_list]})
    assert "| one list | 100 | 1.00 |  |  | 40 | 1.00 |" in table
    assert "| 4, threads | 90 | 0.90 | 2.0 | 3.0 | 50 | 1.25 |" in table


def test_metadata_and_shared_libraries_count_with_their_package(tmp_path: Path) -> None:
    for name, size_in_bytes in {
        "numpy/core.so": 1_000_000,
        "numpy.libs/blas.so": 2_000_000,
        "numpy-2.0.dist-info/RECORD": 500_000,
        "six.py": 10_000,
        "pip/main.py": 3_000_000,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size_in_bytes))
    assert size.measure(tmp_path) == {"numpy": 3.5, "six": 0.01}


def test_smaller_decoders_are_compared_with_the_whole() -> None:
    whole = [SparseVector([1, 2, 3], [2, 1, 1]), SparseVector([4], [4])]
    assert vocabulary.share_lost(whole, [SparseVector([1, 3], [2.5, 1]), SparseVector([4], [4])]) == 1 / 8
    assert vocabulary.share_lost(whole, whole) == 0
    figures = {"weights": 99.6, "ndcg": 0.6111, "lost": 0.0, "entries": 20480, "docs_per_second": [100.0, 80.0, 90.0]}
    smaller = {**figures, "ndcg": 0.6049, "lost": 0.0123, "entries": 9000, "docs_per_second": [120.0, 99.0, 108.0]}
    assert vocabulary.report({vocabulary.WHOLE: figures, vocabulary.SMALLER: smaller}).splitlines()[2:] == [
        "| whole | 20,480 | 100 | none | 0.611 | 1.00 | 22% |",
        "| entries of half the documents | 9,000 | 100 | 1.23% | 0.605 | 1.20 | 19% |",
    ]


# Lab


def test_operations_of_bert_base() -> None:
    """Compares with a count by hand: 12 layers of 4 + 8 products of 768 × 768 a token, attention, and the decoder."""
    assert share.operations(1) == 12 * (2 * 12 * 768**2 + 4 * 768) + 2 * 768 * (768 + 30522)


@pytest.mark.parametrize(
    "change",
    [levers.embed_from_columns, levers.pool_logits, levers.pool_integers, partial(levers.pool_integers, tile=4096)],
)
def test_variants_of_the_embedded_graph_pool_the_same_logits(change: Any, document_graph: Path, tmp_path: Path) -> None:
    text = levers.random_text(20)
    expected = levers.pool(open_session(document_graph), text)
    found = levers.pool(open_session(levers.edit(document_graph, tmp_path / "edited.onnx", change)), text)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_padded_and_single_runs_return_the_weights_of_the_expander(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    texts = ["the cat sat", "dog", "river bank money run"]
    tokenizer = Tokenizer(bundle / "tokenizer.json")
    session = open_session(bundle / "doc.onnx")
    tokenized = [tokenizer.encode(text, 16) for text in texts]
    one_by_one = invariance.run_one_by_one(session, tokenized, workers=2)
    padded = invariance.run_padded(session, tokenized, size=2)
    for vector, alone, together in zip(Expander(bundle, 16).encode(texts), one_by_one, padded, strict=True):
        np.testing.assert_allclose(alone[vector.indices], vector.values, rtol=1e-5)
        np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


# Workers of an engine


def test_engines_run_in_the_environment_of_make_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "PROJECT", tmp_path)
    used: list[Path] = []
    monkeypatch.setattr(environments, "USED", used)
    with pytest.raises(FileNotFoundError, match="run make bench-scale, which makes it"):
        environments.clusters_python()
    python = tmp_path / ".venv-clusters" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert environments.clusters_python() == python and used == [python]


def test_figures_of_an_engine_are_those_of_its_stamps() -> None:
    stamps = [
        {"at": 110.0, "rows": 32, "bytes": 3200, "peak_mb": 90.0, "worker": 1, "opened": "1 a"},
        {"at": 115.0, "rows": 32, "bytes": 6400, "peak_mb": 80.0, "worker": 2, "opened": "2 b"},
        {"at": 120.0, "rows": 16, "bytes": 2400, "peak_mb": 95.0, "worker": 1, "opened": "1 a"},
    ]
    assert scale_jobs.figures(104.0, stamps) == {
        "docs_per_second": 4.8,  # 48 after the first batch, in 10 seconds
        "seconds_to_first_row": 6.0,
        "peak_mb": 95.0,
        "bytes_per_vector": 150.0,
        "workers": 2,
        "models_opened": 2,
    }


def test_an_encoder_of_an_engine_is_stamped_and_gives_the_same_table(tmp_path: Path) -> None:
    import pyarrow as pa

    model = WorkerModel.of(Expander(write_bundle(tmp_path / "bundle")), 1)
    rows = pa.table({"_id": ["a", "b"], "text": ["the cat", "the river bank"]})
    (tmp_path / "stamps").mkdir()
    stamped = pickle.loads(pickle.dumps(scale_jobs.StampedEncoder(model, stamps=str(tmp_path / "stamps"))))
    for _ in range(2):
        assert stamped.table(rows) == TableEncoder(model).table(rows)
    found = scale_jobs.figures(0.0, scale_jobs.read_stamps(str(tmp_path / "stamps")))
    vectors = Expander(tmp_path / "bundle").encode(["the cat", "the river bank"])
    assert found["bytes_per_vector"] == pytest.approx(4 * sum(map(len, vectors)), rel=0.2)  # and the offsets
    assert (found["workers"], found["models_opened"]) == (1, 1)


def test_one_process_is_stamped_as_a_worker(tmp_path: Path) -> None:
    job = {"system": "process", "workers": 1, "model": str(write_bundle(tmp_path / "bundle"))}
    found = scale_jobs.run_process(job, ["the cat", "the river bank"], "")
    vectors = Expander(tmp_path / "bundle").encode(["the cat", "the river bank"])
    assert found["bytes_per_vector"] == 4 * sum(map(len, vectors)) and found["workers"] == 1
    assert found["docs_per_second"] > 0 and found["peak_mb"] > 10


def test_more_nodes_are_simulated_from_rates_and_the_bottleneck_moves() -> None:
    rates = scale.Rates(encoded=100.0, scanned=2e6, results=500.0, stored=1e9, vector=1000.0)
    # A node of 32 cores: 3,200 documents a second, 312,500 s; 500 s to scan; 200 s of results; 1,000 s of vectors.
    assert rates.seconds(1) == {
        "encode": 312_500.0,
        "object store": 1000.0,
        "driver's results": 200.0,
        "driver's scan": 500.0,
    }
    assert rates.documents_per_second(1) == pytest.approx(1e9 / 313_000)
    assert rates.bottleneck_moves() == 626  # 312,500 / 625 = 500
    assert [rates.bottleneck(nodes) for nodes in (1, 625, 626)] == ["encode", "encode", "driver's scan"]
    assert rates.documents_per_second(10**6) == pytest.approx(1e9 / 700)


def test_the_table_of_a_billion_is_worked_out_from_the_rates() -> None:
    def rounds(*rates: float) -> list[dict[str, float]]:
        figures = {"seconds_to_first_row": 1.0, "peak_mb": 100.0, "bytes_per_vector": 1000.0, "stored": 1e9}
        return [{**figures, "workers": 2, "models_opened": 2, "docs_per_second": rate} for rate in rates]

    result = {
        "workers": {"process 2": rounds(210.0, 200.0, 100.0), "ray 2": rounds(190.0), "spark 2": rounds(184.0)},
        "models": {"distilbert": rounds(50.0), "bert-base": rounds(32.0)},
        "driver": {"scanned": 2e6, "results": 500.0},
        "parquet": {
            "embedded pair": {"bytes": 900.0, "weights": 180.0},
            "DistilBERT int8": {"bytes": 500.0, "weights": 90.0},
            "BERT-base int8": {"bytes": 600.0, "weights": 95.0},
        },
    }
    tables = scale.report(result).splitlines()
    assert "| one process | 2 | 200 | 100 % | 55% | 1.0 | 100 | 1 |" in tables
    assert "| Ray | 2 | 190 | 95 % | 0% | 1.0 | 100 | 1 |" in tables
    # 95 documents a second and core, 3,040 a node: 500 s, the time of the scan, with 657.9 nodes
    assert "Up to 657 nodes encoding is the longest stage; from 658 on, driver's scan." in tables
    # 1e9 / 100 / 3600 core-hours at 0.0425 dollars; 900 GB at 0.023
    assert "| embedded pair | 100.0 | 2,778 | 118 | 180 | 900 | 21 |" in tables
    assert "| DistilBERT int8 | 25.0 | 11,111 | 472 | 90 | 500 | 12 |" in tables
    assert "| on a GPU | not measured |  |  |  |  |  |" in tables
