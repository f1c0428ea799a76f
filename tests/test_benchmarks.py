"""What the benchmarks say of a system that fails or is wrong, and how they count."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.lab.share import operations
from benchmarks.measure import in_turn, run, spread, table
from benchmarks.throughput import cell, judged, print_shape
from tests.small_model import write_bundle


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


def test_a_system_is_held_against_the_reference(job: dict[str, object], tmp_path: Path) -> None:
    saved = tmp_path / "reference.npz"
    assert "failed" not in run(Path(sys.executable), {**job, "save": str(saved)})
    found = run(Path(sys.executable), {**job, "agree": str(saved)})
    assert found["mean_cosine"] == pytest.approx(1) and found["docs_per_second"]["mixed"] > 0
    assert judged(found, "float32") == found
    with np.load(saved) as vectors:
        wrong = {name: array[::-1] if name.endswith("v") else array for name, array in vectors.items()}
    np.savez(saved, **wrong)
    found = judged(run(Path(sys.executable), {**job, "agree": str(saved)}), "int8")
    assert found["failed"].startswith("wrong: mean cosine")
    assert cell(found) == found["failed"]


def test_a_system_that_cannot_run_says_why(job: dict[str, object]) -> None:
    found = run(Path(sys.executable), {**job, "bundle": "/nowhere"})
    assert "no known model of that name" in found["failed"]


def test_a_system_without_a_right_setting_is_shown_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    right = {"docs_per_second": dict.fromkeys(("mixed", "short", "typical", "cut at 256"), 2.0), "peak_mb": 1.0}
    right |= {"mean_cosine": 1.0}
    sweep = {"spladerunner": {"2 threads": right}, "fast but wrong": {"batch 1": {**right, "failed": "wrong: so"}}}
    print_shape(
        "small", {"sweep": sweep, "best": {"spladerunner": "2 threads"}, "rounds": {"spladerunner": [right] * 2}}
    )
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| fast but wrong |")]
    assert len(rows) == 2 and all("wrong: so" in row and "2.0" not in row for row in rows)


def test_measurements_come_in_turn() -> None:
    order: list[str] = []

    def measurement(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = in_turn({"a": lambda: measurement("a"), "b": lambda: measurement("b")}, rounds=2)
    assert order == ["a", "b", "a", "b"] and found == {"a": [1, 3], "b": [2, 4]}
    assert spread([1, 2, 3]) == 1
    assert table(["x"], [[1]]) == "| x |\n| --- |\n| 1 |"


def test_the_operations_of_bert_base() -> None:
    """By hand: 12 layers of 4 + 8 products of 768 × 768 a token, attention, and the decoder."""
    assert operations(1) == 12 * (2 * 12 * 768**2 + 4 * 768) + 2 * 768 * (768 + 30522)
