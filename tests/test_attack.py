"""The attacks themselves: a few tries of each, what a failure does, and the table on the page."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from spladerunner.inference import prefix
from spladerunner.inference.tokenizer import Tokenizer
from tests.attack import __main__ as attack
from tests.attack import files, jobs, texts
from tests.attack.tries import FAILURES_KEPT, Result, Tried, run
from tests.small_model import write_bundle


@pytest.mark.slow
@pytest.mark.parametrize("name", attack.ATTACKS)
def test_a_first_try_of_each_attack_holds(name: str) -> None:
    _, _, begin = attack.ATTACKS[name]
    assert next(begin(Random(1))).failure is None


def test_tries_are_taken_until_the_time_is_over_or_nothing_is_left() -> None:
    assert run(iter([Tried(2), Tried(1, "wrong"), Tried(3)]), 60) == Result(6, ["wrong"], finished=True)
    assert run(iter([Tried(2), Tried(3)]), 0) == Result(2, [], finished=False)

    def always_wrong() -> Iterator[Tried]:
        while True:
            yield Tried(1, "wrong")

    assert len(run(always_wrong(), 60).failures) == FAILURES_KEPT


@pytest.mark.slow
def test_a_prefix_that_is_cut_inside_a_word_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix, "_BOUNDARY", re.compile("[a-z]"))
    assert run(texts.code_points(Random(1)), 0).failures
    tries = texts.strings(Random(1))
    assert any(next(tries).failure for _ in range(20))


def test_ids_of_a_long_text_that_is_cut_wrongly_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = Tokenizer.encode
    monkeypatch.setattr(Tokenizer, "encode", lambda self, text, length: encode(self, text[:5], length))
    tries = texts.strings(Random(1))
    assert any(next(tries).failure for _ in range(20))


@pytest.mark.slow
def test_a_fault_that_is_swallowed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "same_files", lambda *_: False)
    assert "other bytes" in str(next(jobs.faults(Random(1))).failure)


def test_a_file_that_gives_other_vectors_or_another_error_is_found(tmp_path: Path) -> None:
    good = write_bundle(tmp_path / "good")
    bare = files.bare_folder(good, tmp_path / "bare")
    (tmp_path / "empty").mkdir()
    first, again, missing = files.opened([bare, bare, tmp_path / "empty"])
    assert first == again and first.startswith("gave ") and missing.startswith("refused ")


def test_damage_changes_a_file_and_says_how(tmp_path: Path) -> None:
    for seed in range(60):
        path = tmp_path / ("a.json" if seed % 2 else "a.onnx")
        path.write_text('{"a": [1, 2, {"b": null}], "c": "x"}')
        before = path.read_bytes()
        assert files.damage(Random(seed), path) and (path.read_bytes() != before or seed % 2)


def test_the_rows_replace_those_of_the_same_attack_and_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    version = platform.python_version()
    with_another = "| kills | 7 | all | seed 1, Python 3.9.1 |", "| forks | 5 (all) | all | seed 1, Python 3.9.1 |"
    old = f"| forks | 6 | all | seed 1, Python {version} |", f"| no such attack | 8 | all | seed 1, Python {version} |"
    page.write_text(f"before\n{attack.BEGIN}\n" + "\n".join([*old, *with_another]) + f"\n\n{attack.END}after\n")

    def finite(chosen: Random) -> Iterator[Tried]:
        yield Tried(1200)
        yield Tried(34, f"wrong {chosen.randrange(1000)}")

    monkeypatch.setattr(attack, "ATTACKS", {"forks": (1, "forks", finite), "kills": (1, "kills", finite)})
    arguments = ["attack", "--seed", "7", "--minutes", "1", "--only", "forks", "--page", str(page)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert attack.main() == 1
    first = capsys.readouterr().out
    assert "seed 7" in first and "'wrong " in first
    before, *table, after = filter(None, page.read_text().splitlines())
    assert (before, after) == ("before", "after")
    assert table[0] == attack.BEGIN.strip() and table[1:3] == attack.HEADER and table[-1] == attack.END.strip()
    assert table[3] == with_another[1] and table[5] == with_another[0] and len(table) == 7
    assert table[4].startswith("| forks | 1,234 (all) | all but 1 | seed 7, ") and f"Python {version}, " in table[4]
    attack.main()
    assert capsys.readouterr().out == first, "the seed repeats the tries"


def test_a_sweep_ends_when_all_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "STRINGS", 2 * texts.TEXTS_PER_TOKENIZER)
    monkeypatch.setattr(texts, "chunks", lambda size: ["é" * size, "数" * size])
    assert run(texts.strings(Random(1)), 60) == Result(2 * texts.TEXTS_PER_TOKENIZER, [], finished=True)
    assert run(texts.code_points(Random(1)), 60) == Result(2 * texts.CHARACTERS_PER_TRY, [], finished=True)
