"""Bulk jobs: killed, resumed, sharded."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from spladerunner import Expander, InputError, OutputError
from spladerunner.bulk import Shard, encode, job
from spladerunner.bulk.resume import FRAME, Output, files
from spladerunner.formats import FORMATS
from spladerunner.model.bundle import Bundle
from spladerunner.readers import Fields, Input
from tests.disk_steps import disk_steps
from tests.small_model import SmallGraph, change_manifest, records, write_bundle
from tests.test_cli import in_terminal, run

WORDS = ["the", "cat", "sat", "on", "a", "mat", "while", "dog", "ran", "to", "river", "bank", "for", "money"]
HASTY = "import sys; from spladerunner.bulk import job; job.SAVE_SECONDS = 0.01; " \
    "from spladerunner.__main__ import main; sys.exit(main())"  # fmt: skip


def write_corpus(path: Path, count: int, *, bad: bool = False) -> Path:
    """Writes `count` records; with bad, some are invalid or repeat an id, and there are blank lines too."""
    chosen = random.Random(1)
    with path.open("wb") as file:
        for number in range(count):
            name = number - 5 if bad and number % 40 == 7 else number
            row = {"_id": str(name), "title": "cat", "text": " ".join(chosen.choices(WORDS, k=12))}
            file.write(b"{broken \xff\n" if bad and number % 30 == 11 else json.dumps(row).encode() + b"\n")
            file.write(b"\n" if bad and number % 50 in (13, 14, 49) else b"")
    return path


def killed_until_done(arguments: list[str], seed: int, least_kills: int) -> int:
    chosen = random.Random(seed)
    for kills in range(200):
        process = subprocess.Popen([sys.executable, "-c", HASTY, *arguments], stderr=subprocess.PIPE)
        partial = Path(arguments[arguments.index("-o") + 1] + ".partial.json")
        before = partial.read_bytes() if partial.exists() else b""
        while process.poll() is None and kills < least_kills:  # until it got on, then a moment more
            if partial.exists() and partial.read_bytes() != before:
                time.sleep(chosen.random() * 0.1)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        error = process.communicate()[1]
        if process.returncode == 0:
            return kills
        assert process.returncode == -signal.SIGKILL, error
    raise AssertionError("never done")


@pytest.mark.slow
@pytest.mark.parametrize("shard", ["1/1", "2/3"])
def test_a_job_that_is_killed_again_and_again_writes_the_same_files(tmp_path: Path, bundle: Path, shard: str) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 3000, bad=True)
    common = ["encode", str(corpus), "--model", str(bundle), "--skip-bad", "--shard", shard]
    expected = run(*common, "-o", tmp_path / "expected")
    assert expected.returncode == 0
    lines = [len((tmp_path / f"expected{suffix}").read_bytes().splitlines()) for suffix in ("", ".bad.jsonl")]
    assert expected.stderr.splitlines()[-1].startswith(
        f"spladerunner: encoded {lines[0]:,} texts to {tmp_path / 'expected'}; {lines[1]:,} bad lines are in "
        f"{tmp_path / 'expected'}.bad.jsonl; cut at 32 tokens: "
    )
    kills = killed_until_done([*common, "-o", str(tmp_path / "killed")], seed=3, least_kills=4)
    assert kills >= 2
    for suffix in ("", ".bad.jsonl"):
        assert (tmp_path / f"killed{suffix}").read_bytes() == (tmp_path / f"expected{suffix}").read_bytes()
    assert not list(tmp_path.glob("*partial*"))


@pytest.mark.slow
def test_shards_concatenate_to_the_unsharded_output(tmp_path: Path, bundle: Path) -> None:
    expander = Expander(bundle)
    inputs = [Input(str(write_corpus(tmp_path / f"{n}.jsonl", 200 + n, bad=True))) for n in range(2)]
    encode(expander, inputs, tmp_path / "unsharded", skip_bad=True)
    for number in range(1, 8):
        encode(expander, inputs, tmp_path / f"part{number}", skip_bad=True, shard=Shard(number, 7))
    for suffix in ("", ".bad.jsonl"):
        parts = [tmp_path / f"part{number}{suffix}" for number in range(1, 8)]
        joined = b"".join(part.read_bytes() for part in parts if part.exists())
        assert joined == (tmp_path / f"unsharded{suffix}").read_bytes()


def test_lines_are_vectors_in_order(tmp_path: Path, bundle: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 50)
    expander = Expander(bundle)
    assert encode(expander, [Input(str(corpus))], tmp_path / "out").documents == 50
    rows = [json.loads(line) for line in corpus.read_text().splitlines()]
    found = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [row["id"] for row in found] == [row["_id"] for row in rows]
    expected = expander.expand([f"{row['title']} {row['text']}" for row in rows])
    assert [row["vector"] for row in found] == [pytest.approx(weights) for weights in expected]


class StopError(Exception):
    pass


def start(expander: Expander, corpus: Path, out: Path, **options: object) -> None:
    """Runs a job up to its first save, as if it were killed there."""

    def stop(done: job.Progress) -> None:
        if done.documents:
            raise StopError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "SAVE_SECONDS", 0.0)
        with pytest.raises(StopError):
            encode(expander, [Input(str(corpus))], out, progress=stop, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"role": "query"}, "another role"),
        ({"format": "indices"}, "another format"),
        ({"shard": Shard(1, 2)}, "another shard"),
    ],
)
def test_other_options_on_resume_are_errors(tmp_path: Path, bundle: Path, change: dict, message: str) -> None:  # type: ignore[type-arg]
    expander, corpus = Expander(bundle, threads=1), write_corpus(tmp_path / "c.jsonl", 20000)
    start(expander, corpus, tmp_path / "out")
    with pytest.raises(OutputError, match=message):
        encode(expander, [Input(str(corpus))], tmp_path / "out", **change)


def test_a_job_that_is_refused_leaves_an_empty_output_of_another(tmp_path: Path, bundle: Path) -> None:
    expander, corpus, out = Expander(bundle, threads=1), write_corpus(tmp_path / "c.jsonl", 20000), tmp_path / "out"
    start(expander, corpus, out)
    os.truncate(f"{out}.partial", 0)  # as after a crash that lost what was not synced
    before = sorted(file.name for file in tmp_path.iterdir())
    with pytest.raises(OutputError, match="another role"):
        encode(expander, [Input(str(corpus))], out, role="query")
    assert sorted(file.name for file in tmp_path.iterdir()) == before


def test_what_was_written_after_the_last_save_is_written_again(tmp_path: Path, bundle: Path) -> None:
    expander, corpus, out = Expander(bundle, threads=1), write_corpus(tmp_path / "c.jsonl", 20000), tmp_path / "out"
    start(expander, corpus, out)
    for name in ("out.partial", "out.bad.jsonl.partial"):
        with (tmp_path / name).open("ab") as file:
            file.write(b"half of a line" * (1 << 21))
    encode(expander, [Input(str(corpus))], out)
    encode(expander, [Input(str(corpus))], tmp_path / "expected")
    assert out.read_bytes() == (tmp_path / "expected").read_bytes()
    assert not (tmp_path / "out.bad.jsonl").exists()


def test_an_output_that_is_renamed_while_it_is_locked_belongs_to_another_process(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def rename(file: int, operation: int) -> None:
        flock(file, operation)
        (tmp_path / "out.partial").rename(tmp_path / "finished")

    corpus = write_corpus(tmp_path / "c.jsonl", 10)
    monkeypatch.setattr(fcntl, "flock", rename)
    with pytest.raises(OutputError, match="is being written by another process"):
        encode(Expander(bundle), [Input(str(corpus))], tmp_path / "out")


@pytest.mark.slow
def test_another_model_or_input_on_resume_is_an_error(tmp_path: Path, bundle: Path) -> None:
    expander, corpus = Expander(bundle, threads=1), write_corpus(tmp_path / "c.jsonl", 20000)
    start(expander, corpus, tmp_path / "out")
    others = {"another graph": bundle.parent / "other", "other lengths": bundle}
    write_bundle(others["another graph"])
    SmallGraph(seed=7).save(others["another graph"] / "doc.onnx")
    change_manifest(others["another graph"], files=records(others["another graph"], *Bundle.open(bundle).files))
    for name, folder in others.items():
        other = Expander(folder, 8 if name == "other lengths" else None)
        assert other.name == expander.name
        with pytest.raises(OutputError, match="another model"):
            encode(other, [Input(str(corpus))], tmp_path / "out")
    content = corpus.read_bytes()
    corpus.write_bytes(content.replace(b"cat", b"dog", 1))
    with pytest.raises(OutputError, match="inputs have changed"):
        encode(expander, [Input(str(corpus))], tmp_path / "out")
    corpus.write_bytes(content)
    corpus.rename(tmp_path / "d.jsonl")
    with pytest.raises(OutputError, match="another input"):
        encode(expander, [Input(str(tmp_path / "d.jsonl"))], tmp_path / "out")


def test_a_job_of_another_version_is_refused(tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expander, corpus, out = Expander(bundle, threads=1), write_corpus(tmp_path / "c.jsonl", 20000), tmp_path / "out"
    start(expander, corpus, out)
    with monkeypatch.context() as patch:
        patch.setattr(job, "__version__", "99")
        with pytest.raises(
            OutputError, match=r"another spladerunner: .* not '99'\. .*delete .*to start over"
        ) as raised:
            encode(expander, [Input(str(corpus))], out)
        assert raised.value.path == out
    state = tmp_path / "out.partial.json"
    older = json.loads(state.read_bytes())
    del older["bad"]  # as written by version 0.2
    state.write_text(json.dumps(older))
    with pytest.raises(OutputError, match=r"from another version of spladerunner: .*Delete .*to start over"):
        encode(expander, [Input(str(corpus))], out)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["tail", "short", "no state", "cut state"])
def test_damage_by_a_crash_or_by_hand(tmp_path: Path, bundle: Path, damage: str) -> None:
    expander, corpus = Expander(bundle, threads=1), write_corpus(tmp_path / "c.jsonl", 20000)
    out, partial, state = tmp_path / "out", tmp_path / "out.partial", tmp_path / "out.partial.json"
    corpus.write_bytes(b"".join(corpus.read_bytes().splitlines(keepends=True)[:300]))
    start(expander, corpus, out)
    if damage == "tail":
        with partial.open("ab") as file:
            file.write(b'{"id": "half')
        encode(expander, [Input(str(corpus))], out)
        encode(expander, [Input(str(corpus))], tmp_path / "expected")
        assert out.read_bytes() == (tmp_path / "expected").read_bytes()
        return
    if damage == "short":
        os.truncate(partial, 1)
    elif damage == "no state":
        state.unlink()
    else:
        state.write_bytes(state.read_bytes()[:20])
    with pytest.raises(OutputError, match="to start over"):
        encode(expander, [Input(str(corpus))], out)


def test_an_output_that_exists_or_is_being_written_is_left_alone(tmp_path: Path, bundle: Path) -> None:
    corpus, out = write_corpus(tmp_path / "c.jsonl", 5), tmp_path / "out"
    expander = Expander(bundle)
    with (tmp_path / "out.partial").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="another process"):
            encode(expander, [Input(str(corpus))], out)
    encode(expander, [Input(str(corpus))], out)
    before = out.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        encode(expander, [Input(str(corpus))], out, format="indices")
    assert out.read_bytes() == before and not list(tmp_path.glob("*partial*"))


@pytest.mark.parametrize("output", ["out", "out.parquet", "out/"])
def test_a_system_without_file_locks_is_refused(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 5)
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    with pytest.raises(OutputError, match="needs a POSIX system"):
        encode(Expander(bundle), [Input(str(corpus))], f"{tmp_path}/{output}")
    assert [path.name for path in tmp_path.iterdir() if path != bundle] == ["c.jsonl"]


@pytest.mark.slow
def test_a_full_disk_keeps_what_was_saved(tmp_path: Path, bundle: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 1500)
    arguments = ["encode", str(corpus), "--model", str(bundle), "-o", str(tmp_path / "out")]
    limited = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); " \
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); " + HASTY  # fmt: skip
    done = subprocess.run([sys.executable, "-c", limited, *arguments], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "File too large" in done.stderr
    assert json.loads((tmp_path / "out.partial.json").read_text())["documents"] > 0
    assert run(*arguments).returncode == 0
    assert run(*arguments[:-1], tmp_path / "expected").returncode == 0
    assert (tmp_path / "out").read_bytes() == (tmp_path / "expected").read_bytes()


def test_a_bad_line_stops_with_its_number_and_the_run_goes_on_with_skip_bad(tmp_path: Path, bundle: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 100, bad=True)
    expander, out = Expander(bundle), tmp_path / "out"
    with pytest.raises(InputError, match=r"c\.jsonl, line 8: the id '2' occurred before.*--skip-bad") as raised:
        encode(expander, [Input(str(corpus))], out)
    assert (raised.value.path, raised.value.line) == (corpus, 8)
    done = encode(expander, [Input(str(corpus))], out, skip_bad=True)
    bad = [json.loads(line) for line in (tmp_path / "out.bad.jsonl").read_text().splitlines()]
    assert len(bad) == done.bad == 6 and done.documents == 94  # 7, 47 and 87 repeated; 11, 41 and 71 invalid
    assert done.lines == done.total == 106  # 6 blank lines
    assert [row["line"] for row in bad] == [8, 12, 44, 50, 77, 93]
    assert bad[0] == {"file": str(corpus), "line": 8, "reason": bad[0]["reason"], "raw": bad[0]["raw"]}


@pytest.mark.slow
def test_standard_input_is_read_but_not_sharded(tmp_path: Path, bundle: Path) -> None:
    common = ("encode", "-", "--model", bundle, "--input-format", "text", "-o", tmp_path / "out")
    done = run(*common, "--shard", "1/2", input="cat\n")
    assert done.returncode == 1 and "Standard input and pipes cannot be sharded" in done.stderr
    assert run(*common, input="cat\ndog\n").returncode == 0
    assert [json.loads(line)["id"] for line in (tmp_path / "out").read_text().splitlines()] == ["1", "2"]


@pytest.mark.slow
def test_memory_is_flat(tmp_path: Path, bundle: Path) -> None:
    peaks = []
    for count in (2_000, 30_000):
        corpus = tmp_path / f"{count}.txt"
        corpus.write_text("the cat\n" * count)
        code = HASTY.replace("0.01", "5").replace("sys.exit(main())", "main(); import resource; "
                             "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)")  # fmt: skip
        arguments = ["encode", str(corpus), "--model", str(bundle), "-o", str(tmp_path / f"out{count}")]
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    # 28,000 ids are 2 MB; the texts' vectors would be 28,000 × 1 kB and more
    assert peaks[1] - peaks[0] < 12_000


@pytest.mark.slow
def test_progress_is_a_bar_on_a_terminal_and_lines_in_a_log(tmp_path: Path, bundle: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 300)
    common = ("encode", str(corpus), "--model", str(bundle), "-o")
    assert re.search(r"300/300 .* lines/s", in_terminal(*common, str(tmp_path / "a"), columns=100))
    code = "from spladerunner.bulk import progress; progress.LOG_SECONDS = 0.0; " + HASTY
    done = subprocess.run(
        [sys.executable, "-c", code, *common, str(tmp_path / "b")], capture_output=True, text=True, check=True
    )
    assert re.search(r"^spladerunner: 300 of 300 lines, [\d.]+ per second, 00:00 left$", done.stderr, re.MULTILINE)
    assert "\r" not in done.stderr


@pytest.mark.slow
def test_sigterm_ends_a_job_without_a_message_and_keeps_what_was_saved(tmp_path: Path, bundle: Path) -> None:
    corpus, state = write_corpus(tmp_path / "c.jsonl", 20000), tmp_path / "out.partial.json"
    arguments = ["encode", str(corpus), "--model", str(bundle), "-o", str(tmp_path / "out")]
    process = subprocess.Popen([sys.executable, "-c", HASTY, *arguments], stderr=subprocess.PIPE)
    while not state.exists() or not json.loads(state.read_bytes())["documents"]:
        assert process.poll() is None
        time.sleep(0.005)
    process.terminate()
    assert process.communicate()[1] == b"" and process.returncode == 143
    saved = json.loads(state.read_bytes())
    lines = (tmp_path / "out.partial").read_bytes()[: saved["bytes"]].splitlines()
    assert len(lines) == saved["documents"] > 0


@pytest.mark.parametrize("where", ["reached", "_flush"])
def test_an_interrupt_between_any_two_steps_repeats_no_line(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    expander, inputs = Expander(bundle), [Input(str(write_corpus(tmp_path / "c.jsonl", 60)))]
    encode(expander, inputs, tmp_path / "expected")
    monkeypatch.setattr(job, "SAVE_SECONDS", 0.0)
    step, calls = getattr(Output, where), 0

    def interrupted(writer: Output, *arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 20:
            if where == "_flush":  # written, and not yet forgotten
                lines = list(writer._lines)
                step(writer)
                writer._lines.extend(lines)
            raise KeyboardInterrupt
        step(writer, *arguments)

    monkeypatch.setattr(Output, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        encode(expander, inputs, tmp_path / "out")
    encode(expander, inputs, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "expected").read_bytes()


def test_an_output_created_meanwhile_is_not_overwritten_and_no_work_is_lost(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expander, inputs = Expander(bundle), [Input(str(write_corpus(tmp_path / "c.jsonl", 60)))]
    encode(expander, inputs, tmp_path / "expected")
    rename = Output._rename

    def late(writer: Output) -> None:
        (tmp_path / "out").write_text("of another")
        rename(writer)

    monkeypatch.setattr(Output, "_rename", late)
    for _ in range(2):
        with pytest.raises(OutputError, match=r"out (was created by another|exists already)"):
            encode(expander, inputs, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "of another"
    monkeypatch.undo()
    (tmp_path / "out").unlink()
    encode(expander, inputs, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "expected").read_bytes()


def test_a_text_that_a_format_refuses_is_a_bad_line(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(name: str, vector: object, vocabulary: object) -> str:
        if name == "7":
            raise ValueError("the token 'x' is too long")
        return name

    monkeypatch.setitem(FORMATS, "refusing", refusing)
    expander, inputs = Expander(bundle), [Input(str(write_corpus(tmp_path / "c.jsonl", 20)))]
    with pytest.raises(InputError, match=r"c\.jsonl, line 8: '7' cannot be written as refusing: the token 'x'"):
        encode(expander, inputs, tmp_path / "out", format="refusing")
    done = encode(expander, inputs, tmp_path / "out", format="refusing", skip_bad=True)
    assert (done.documents, done.bad) == (19, 1)
    (bad,) = map(json.loads, (tmp_path / "out.bad.jsonl").read_text().splitlines())
    assert bad["line"] == 8 and "too long" in bad["reason"]


def close_as_if_killed(writer: Output) -> None:
    """Closes the files of a writer as the end of its process does: without the writer's own steps."""
    for file in (writer._file, writer._bad_file):
        if file is not None:
            os.close(file)


class Renames:
    """Counts the renames and removals of a job, and stops it before the one with a given number."""

    def __init__(self, patch: pytest.MonkeyPatch, last: int) -> None:
        self.left = last
        for name in ("replace", "unlink"):
            step = getattr(Path, name)
            patch.setattr(Path, name, lambda *arguments, step=step, **options: self.run(step, *arguments, **options))

    def run(self, step: Callable[..., object], *arguments: object, **options: object) -> object:
        if self.left == 0:
            raise StopError
        self.left -= 1
        return step(*arguments, **options)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [True, False])
def test_killed_at_any_step_of_the_end_the_job_is_done_by_the_same_command(
    tmp_path: Path, bundle: Path, bad: bool
) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 40, bad=bad)
    expander, inputs = Expander(bundle), [Input(str(corpus))]
    done = encode(expander, inputs, tmp_path / "expected", skip_bad=True)
    for steps in range(10):
        out = tmp_path / f"out{steps}"
        with pytest.MonkeyPatch.context() as patch:
            Renames(patch, steps)
            patch.setattr(Output, "close", close_as_if_killed)
            stopped = False
            try:
                encode(expander, inputs, out, skip_bad=True)
            except StopError:
                stopped = True
        repeated = encode(expander, inputs, out, skip_bad=True)
        assert replace(repeated, repeated=False) == done
        for suffix in ("", ".bad.jsonl"):
            found, expected = Path(f"{out}{suffix}"), Path(f"{tmp_path / 'expected'}{suffix}")
            assert found.exists() == expected.exists()
            assert not found.exists() or found.read_bytes() == expected.read_bytes()
        assert not list(tmp_path.glob("*partial*"))
        if not stopped:
            assert steps == 5 and repeated.repeated  # two saves, and three renames
            return
    raise AssertionError("the end has more steps")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"bundle"}


def test_a_finished_job_is_recognized_by_its_options_and_its_inputs(tmp_path: Path, bundle: Path) -> None:
    corpus, out = write_corpus(tmp_path / "c.jsonl", 40), tmp_path / "out"
    expander, inputs = Expander(bundle), [Input(str(corpus))]
    done = encode(expander, inputs, out)
    written = out.read_bytes()
    assert names(tmp_path) == {"c.jsonl", "out", "out.done.json"} and not done.repeated
    assert encode(expander, inputs, out) == replace(done, repeated=True)
    with pytest.raises(OutputError, match=r"out exists already, and was encoded with another role: 'doc', not 'query'"):
        encode(expander, inputs, out, role="query")
    content = corpus.read_bytes()
    for changed in (content + content[:1], content.replace(b"cat", b"dog", 1), content[:-200]):
        corpus.write_bytes(changed)
        with pytest.raises(OutputError, match="out exists already, and its inputs have changed"):
            encode(expander, inputs, out)
    corpus.write_bytes(content)
    assert out.read_bytes() == written and names(tmp_path) == {"c.jsonl", "out", "out.done.json"}
    with out.open("ab") as file:
        file.write(b"x")
    with pytest.raises(OutputError, match=r"out exists already\. Give another -o"):
        encode(expander, inputs, out)
    out.unlink()
    encode(expander, inputs, out)
    assert out.read_bytes() == written


@pytest.mark.slow
def test_the_command_says_that_it_was_done_before(tmp_path: Path, bundle: Path) -> None:
    arguments = ("encode", write_corpus(tmp_path / "c.jsonl", 3), "--model", bundle, "-o", tmp_path / "out")
    first, second = run(*arguments), run(*arguments)
    assert first.returncode == second.returncode == 0
    assert first.stderr == f"spladerunner: encoded 3 texts to {tmp_path / 'out'}\n"
    assert second.stderr == f"spladerunner: had already encoded 3 texts to {tmp_path / 'out'}\n"


@pytest.mark.parametrize("suffix", [path.name.removeprefix("out") for path in files(Path("out"))])
@pytest.mark.parametrize("how", ["itself", "symbolic link", "hard link", "another path"])
def test_no_input_is_touched(tmp_path: Path, bundle: Path, suffix: str, how: str) -> None:
    (tmp_path / "folder").mkdir()
    own, corpus = tmp_path / f"out{suffix}", tmp_path / "corpus.jsonl"
    write_corpus(corpus, 3)
    if how == "symbolic link":
        own.symlink_to(corpus)
    elif how == "hard link":
        own.hardlink_to(corpus)
    else:
        corpus = corpus.rename(own)
    content = corpus.read_bytes()
    path = tmp_path / "folder" / ".." / own.name if how == "another path" else corpus
    with pytest.raises(OutputError, match=r"is an input, and also .* which the job would write") as raised:
        encode(Expander(bundle), [Input(str(path), "jsonl")], tmp_path / "out")
    assert raised.value.path == own
    assert corpus.read_bytes() == own.read_bytes() == content
    assert names(tmp_path) == {"folder", own.name, corpus.name}


def test_no_input_is_touched_by_parquet_parts(tmp_path: Path, bundle: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 3)
    (tmp_path / "out").mkdir()
    corpus = corpus.rename(tmp_path / "out" / "part-000000.parquet")
    content = corpus.read_bytes()
    with pytest.raises(OutputError, match=r"part-000000\.parquet is an input, and also"):
        encode(Expander(bundle), [Input(str(corpus), "jsonl")], tmp_path / "out")
    assert corpus.read_bytes() == content and names(tmp_path / "out") == {corpus.name}


def test_a_bad_line_can_be_fixed_and_the_job_goes_on(tmp_path: Path, bundle: Path) -> None:
    corpus, out = write_corpus(tmp_path / "c.jsonl", 20), tmp_path / "out"
    expander, inputs = Expander(bundle), [Input(str(corpus))]
    good = corpus.read_bytes().splitlines(keepends=True)
    corpus.write_bytes(b"".join([*good[:12], b"{broken\n", *good[13:]]))
    with pytest.raises(InputError, match=r"c\.jsonl, line 13: not valid JSON"):
        encode(expander, inputs, out)
    assert json.loads((tmp_path / "out.partial.json").read_bytes())["documents"] == 12
    corpus.write_bytes(b"".join(good))
    seen: list[job.Progress] = []
    encode(expander, inputs, out, progress=seen.append)
    assert seen[0].documents == 12 and seen[-1].documents == 20
    encode(expander, inputs, tmp_path / "expected")
    assert out.read_bytes() == (tmp_path / "expected").read_bytes()


def test_a_shard_is_not_resumed_after_a_change_of_the_number_of_lines(tmp_path: Path, bundle: Path) -> None:
    corpus, out = write_corpus(tmp_path / "c.jsonl", 20000), tmp_path / "out"
    expander = Expander(bundle, threads=1)
    start(expander, corpus, out, shard=Shard(2, 2))
    with corpus.open("ab") as file:
        file.write(b"\n")
    with pytest.raises(OutputError, match="another number of input lines: 20000, not 20001"):
        encode(expander, [Input(str(corpus))], out, shard=Shard(2, 2))


@pytest.mark.parametrize("how", ["stopped", "killed", "bad lines skipped"])
def test_a_job_that_wrote_nothing_does_not_block_the_corrected_one(tmp_path: Path, bundle: Path, how: str) -> None:
    corpus, out = tmp_path / "c.jsonl", tmp_path / "out"
    corpus.write_text('{"doc_id": "1", "contents": "the cat"}\n')
    expander, inputs = Expander(bundle), [Input(str(corpus))]
    if how == "bad lines skipped":
        assert encode(expander, inputs, out, skip_bad=True).bad == 1
        assert names(tmp_path) == {"c.jsonl", "out", "out.bad.jsonl", "out.done.json"}
    else:
        with pytest.MonkeyPatch.context() as patch:
            if how == "killed":
                patch.setattr(Output, "close", close_as_if_killed)
            with pytest.raises(InputError) as raised:
                encode(expander, inputs, out)
        assert str(raised.value).endswith(
            "line 1: no id: '_id' is missing or null, not a string or an integer; the fields are 'doc_id', 'contents'. "
            "Fix the line, give the names of the fields with --id-field and --text-field, or skip bad lines with "
            "--skip-bad."
        )
        left = {"out.partial", "out.partial.json", "out.bad.jsonl.partial"} if how == "killed" else set()
        assert names(tmp_path) == {"c.jsonl", *left}
    fields = Fields("doc_id", None, "contents")
    assert encode(expander, inputs, out, fields=fields).documents == 1
    assert json.loads(out.read_bytes())["id"] == "1"
    assert names(tmp_path) == {"c.jsonl", "out", "out.done.json"}


@pytest.mark.slow
@pytest.mark.parametrize("standard_error", [">&-", ">/dev/full"])
def test_standard_error_may_be_closed_or_full(tmp_path: Path, bundle: Path, standard_error: str) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 20)
    code = "from spladerunner.bulk import progress; progress.LOG_SECONDS = 0.0; " + HASTY.replace(
        "sys.exit(main())", "import os; status = main(); os.write(2, b'from a library'); sys.exit(status)"
    )
    arguments = ["encode", str(corpus), "--model", str(bundle), "-o", str(tmp_path / "out")]
    if standard_error == ">/dev/full":
        code = code.replace("os.write(2, b'from a library'); ", "")
    done = subprocess.run(
        ["sh", "-c", f'"$@" 2{standard_error}', "sh", sys.executable, "-c", code, *arguments], capture_output=True
    )
    assert done.returncode == 0 and done.stdout == b""
    assert len((tmp_path / "out").read_bytes().splitlines()) == 20


@pytest.mark.slow
def test_an_interrupt_says_how_to_go_on(tmp_path: Path, bundle: Path) -> None:
    corpus, state = write_corpus(tmp_path / "c.jsonl", 20000), tmp_path / "out.partial.json"
    arguments = ["encode", str(corpus), "--model", str(bundle), "-o", str(tmp_path / "out")]
    process = subprocess.Popen([sys.executable, "-c", HASTY, *arguments], stderr=subprocess.PIPE)
    while not state.exists() or not json.loads(state.read_bytes())["documents"]:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    message = process.communicate()[1]
    assert process.returncode == 130
    assert message == b"spladerunner: interrupted; the same command goes on from the last save\n"


def test_each_save_is_on_the_disk_before_the_state_counts_it(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines, bad lines and the new state are synced before it gets its name, and the folder afterwards."""
    corpus = write_corpus(tmp_path / "c.jsonl", 30, bad=True)
    (tmp_path / "out").mkdir()
    output = tmp_path / "out" / "v"
    monkeypatch.setattr(job, "SAVE_SECONDS", 0.0)
    steps = disk_steps(monkeypatch)
    encode(Expander(bundle), [Input(str(corpus))], output, skip_bad=True)
    saves = [at for at, step in enumerate(steps) if step[1] == "v.partial.json"]
    assert len(saves) > 10
    for at in saves:
        names = [name for name, _ in steps[at - 3 : at + 2]]
        assert names == ["v.partial", "v.bad.jsonl.partial", "v.partial.json.new", "v.partial.json.new", "out"]
    (lines, bad), last = (steps[saves[-1] + offset][1] for offset in (-3, -2)), saves[-1] + 2
    assert (lines, bad) == (output.stat().st_size, Path(f"{output}.bad.jsonl").stat().st_size)
    assert [step if isinstance(step[1], str) else step[0] for step in steps[last:]] == [
        ("v.bad.jsonl.partial", "v.bad.jsonl"),
        ("v.partial", "v"),
        "out",
        ("v.partial.json", "v.done.json"),
        "out",
    ]


def test_bad_lines_of_another_run_are_left_alone(tmp_path: Path, bundle: Path) -> None:
    corpus, bad = write_corpus(tmp_path / "c.jsonl", 30, bad=True), tmp_path / "out.bad.jsonl"
    bad.write_text("of another run\n")
    for skip_bad in (False, True):
        with pytest.raises(OutputError, match=r"out\.bad\.jsonl exists already, from another job\. Move or delete it"):
            encode(Expander(bundle), [Input(str(corpus))], tmp_path / "out", skip_bad=skip_bad)
    assert bad.read_text() == "of another run\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "c.jsonl", "out.bad.jsonl"]


@pytest.mark.parametrize(("kind", "lines"), [("tsv", ["a\tthe cat", "", "b\tdog "]), ("txt", ["the cat", "", "dog "])])
def test_windows_line_ends_change_nothing(tmp_path: Path, bundle: Path, kind: str, lines: list[str]) -> None:
    expander, vectors = Expander(bundle), []
    for end in ("\n", "\r\n"):
        name = f"{kind}{len(end)}"
        (tmp_path / f"{name}.{kind}").write_bytes(end.join([*lines, ""]).encode())
        encode(expander, [Input(str(tmp_path / f"{name}.{kind}"))], tmp_path / name)
        vectors.append((tmp_path / name).read_text())
    assert vectors[0] == vectors[1]
    found = [json.loads(line) for line in vectors[0].splitlines()]
    texts = ["the cat", "dog"] if kind == "tsv" else ["the cat", "", "dog"]
    assert [row["vector"] for row in found] == [pytest.approx(weights) for weights in expander.expand(texts)]
    assert [row["id"] for row in found] == (["a", "b"] if kind == "tsv" else ["1", "2", "3"])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_job_closes_what_it_opened(tmp_path: Path, bundle: Path) -> None:
    expander = Expander(bundle)
    expander.expand("the cat")
    inputs = [Input(str(write_corpus(tmp_path / "corpus.jsonl", 60, bad=True)))]
    opened = len([*Path("/proc/self/fd").iterdir()])
    encode(expander, inputs, tmp_path / "out", skip_bad=True)
    with pytest.raises(OutputError, match="exists already"):
        encode(expander, inputs, tmp_path / "out", skip_bad=True, role="query")
    assert len([*Path("/proc/self/fd").iterdir()]) == opened


def test_lines_do_not_wait_in_memory_for_the_next_save(tmp_path: Path) -> None:
    output = Output(tmp_path / "out", {}, lambda record, vector: "x" * 999)
    for _ in range(2 * FRAME // 1000 + 1):
        output.write(None, None)  # type: ignore[arg-type]
    written = (tmp_path / "out.partial").stat().st_size
    output.close()
    assert FRAME <= written <= 2 * FRAME + 1000
