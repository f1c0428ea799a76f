"""What encode writes: windows, pruned vectors, kept fields, compressed files and streams."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from tqdm import tqdm

from spladerunner import Expander, InputError, OutputError
from spladerunner.bulk import Progress, Shard, encode, progress, resume
from spladerunner.bulk.stream import STDOUT
from spladerunner.formats import WITH_PAYLOAD, qdrant_id
from spladerunner.parquet import read_vectors
from spladerunner.readers import Fields, Input
from tests.test_bulk_job import HASTY, StopError, killed_until_done, names, start, write_corpus
from tests.test_cli import run

DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".zst": lambda content: zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True).read(),
}


def write_texts(path: Path, lengths: list[int]) -> list[str]:
    """Writes texts of so many tokens; their ids are d0, d1, …"""
    chosen = random.Random(2)
    texts = [
        " ".join(chosen.choices(["the", "cat", "sat", "on", "mat", "dog", "river"], k=length)) for length in lengths
    ]
    rows = [{"_id": f"d{number}", "text": text, "url": f"u{number}"} for number, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return texts


def written(path: Path) -> dict[str, dict[str, float]]:
    return {row["id"]: row["vector"] for row in map(json.loads, path.read_text().splitlines())}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_texts(tmp_path / "c.jsonl", [3, 0, 8, 9, 40])
    return tmp_path / "c.jsonl"


@pytest.fixture
def expander(bundle: Path) -> Expander:
    return Expander(bundle, 10)  # windows of eight tokens


def test_texts_that_are_cut_are_counted(tmp_path: Path, expander: Expander, corpus: Path) -> None:
    done = encode(expander, [Input(str(corpus))], tmp_path / "out")
    assert (done.cut, done.tokens, done.lost) == (2, 60, 33)
    assert encode(expander, [Input(str(corpus))], tmp_path / "out").cut == 2
    part = encode(expander, [Input(str(corpus))], tmp_path / "v.parquet", part_lines=2)
    assert (part.cut, part.tokens, part.lost) == (2, 60, 33)
    assert encode(expander, [Input(str(corpus))], tmp_path / "v.parquet", part_lines=2).lost == 33
    whole = encode(expander, [Input(str(corpus))], tmp_path / "whole", windows="max")
    assert (whole.cut, whole.tokens, whole.lost) == (0, 60, 0)


@pytest.mark.slow
def test_counts_are_those_of_all_lines_when_a_job_resumes(tmp_path: Path, bundle: Path) -> None:
    corpus = tmp_path / "c.jsonl"
    write_texts(corpus, [12] * 3000)
    expander = Expander(bundle, 10, threads=1)
    start(expander, corpus, tmp_path / "out")
    done = encode(expander, [Input(str(corpus))], tmp_path / "out")
    assert (done.documents, done.cut, done.tokens, done.lost) == (3000, 3000, 36000, 12000)


@pytest.mark.slow
def test_the_last_line_tells_what_was_cut(tmp_path: Path, bundle: Path, corpus: Path) -> None:
    done = run("encode", corpus, "--model", bundle, "--max-length", "10", "-o", tmp_path / "out")
    assert done.stderr == (
        f"spladerunner: encoded 5 texts to {tmp_path / 'out'}; cut at 10 tokens: 2 of 5 texts (40%), 55.0% of all "
        "tokens; --windows reads them whole\n"
    )
    passages = ("--max-length", "10", "--windows", "passages", "--overlap", "0", "-o", tmp_path / "passages")
    assert run("encode", corpus, "--model", bundle, *passages).stderr == (
        f"spladerunner: encoded 10 passages to {tmp_path / 'passages'}\n"
    )


def test_windows_are_joined_or_kept_apart(tmp_path: Path, expander: Expander) -> None:
    texts = write_texts(tmp_path / "c.jsonl", [3, 0, 8, 9, 40])
    inputs = [Input(str(tmp_path / "c.jsonl"))]
    encode(expander, inputs, tmp_path / "max", windows="max")  # an overlap of 2
    expected = [expander.vocabulary.weights(vector) for vector in expander.encode(texts, overlap=2)]
    assert list(written(tmp_path / "max").values()) == [pytest.approx(weights) for weights in expected]
    done = encode(expander, inputs, tmp_path / "apart", windows="passages", overlap=3)
    passages = list(expander.passages(texts, overlap=3))
    found = written(tmp_path / "apart")
    assert list(found) == [f"d{passage.text}#{passage.number}" for passage in passages] and done.documents == len(found)
    assert list(found)[-1] == "d4#7"
    assert list(found.values()) == [pytest.approx(expander.vocabulary.weights(passage.vector)) for passage in passages]
    encode(expander, inputs, tmp_path / "v.parquet", windows="passages", overlap=3, part_lines=2)
    assert list(read_vectors(str(tmp_path / "v.parquet"))) == [
        (f"d{passage.text}#{passage.number}", passage.vector) for passage in passages
    ]


def test_windows_of_other_options_are_another_job(tmp_path: Path, bundle: Path) -> None:
    corpus = tmp_path / "c.jsonl"
    write_texts(corpus, [12] * 20000)
    expander = Expander(bundle, 10, threads=1)
    start(expander, corpus, tmp_path / "out", windows="passages", overlap=3)
    for options, message in (
        ({}, "another windows: 'passages', not None"),
        ({"windows": "passages", "overlap": 2}, "another overlap: 3, not 2"),
        ({"windows": "passages", "overlap": 3, "top": 8}, "another top: None, not 8"),
    ):
        with pytest.raises(OutputError, match=message):
            encode(expander, [Input(str(corpus))], tmp_path / "out", **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="overlap=3 has no effect without windows"):
        encode(expander, [Input(str(corpus))], tmp_path / "other", overlap=3)


def test_vectors_are_pruned(tmp_path: Path, expander: Expander) -> None:
    texts = write_texts(tmp_path / "c.jsonl", [5, 30])
    inputs = [Input(str(tmp_path / "c.jsonl"))]
    options = {"min_weight": 0.25, "max_ratio": 0.5, "top": 6}
    encode(expander, inputs, tmp_path / "out", **options)  # type: ignore[arg-type]
    pruned = [vector.prune(0.25, max_ratio=0.5, top=6) for vector in expander.encode(texts)]
    assert 0 < len(pruned[0]) <= 6 < len(expander.encode(texts)[0])
    expected = [pytest.approx(expander.vocabulary.weights(vector)) for vector in pruned]
    assert list(written(tmp_path / "out").values()) == expected


@pytest.mark.parametrize("format", WITH_PAYLOAD)
def test_other_fields_travel_along(tmp_path: Path, expander: Expander, format: str) -> None:
    corpus = tmp_path / "c.jsonl"
    rows: list[dict[str, Any]] = [
        {"_id": "a", "text": "the cat", "title": "Élan", "year": 1999, "tags": ["x", None]},
        {"_id": "b", "text": "the dog", "year": None},
    ]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fields = Fields(keep=("title", "year", "tags"))
    encode(expander, [Input(str(corpus))], tmp_path / "plain", format=format)
    encode(expander, [Input(str(corpus))], tmp_path / "out", format=format, fields=fields)
    plain, found = ([json.loads(line) for line in (tmp_path / n).read_text().splitlines()] for n in ("plain", "out"))
    for row, bare, line in zip(rows, plain, found, strict=True):
        kept: dict[str, Any] = {name: row[name] for name in ("title", "year", "tags") if name in row}
        if format == "qdrant":
            assert line["payload"] == {"id": row["_id"], **kept} and line["id"] == qdrant_id(str(row["_id"]))
            assert {**line, "payload": bare["payload"]}.keys() == bare.keys()
        elif format == "vespa":
            assert line["fields"].keys() == {"id", "vector", *kept} and line["fields"].items() >= kept.items()
        elif "search" in format:
            assert line.keys() == {"_id", "_source"} and line["_source"].keys() == {"vector", *kept}
            assert line["_source"].items() >= kept.items()
        else:
            assert line.keys() == bare.keys() | kept.keys() and line.items() >= kept.items()


def test_fields_that_cannot_travel_are_errors(tmp_path: Path, expander: Expander, corpus: Path) -> None:
    inputs = [Input(str(corpus))]
    for format in ("pgvector", "anserini", "anserini-topics", "seismic"):
        with pytest.raises(ValueError, match=r"has no place for other fields"):
            encode(expander, inputs, tmp_path / "out", format=format, fields=Fields(keep=("url",)))
    with pytest.raises(ValueError, match="Parquet has no place for other fields"):
        encode(expander, inputs, tmp_path / "out.parquet", fields=Fields(keep=("url",)))
    (tmp_path / "c.tsv").write_text("a\tthe cat\n")
    with pytest.raises(InputError, match=r"c\.tsv has no fields to keep"):
        encode(expander, [Input(str(tmp_path / "c.tsv"))], tmp_path / "out", fields=Fields(keep=("url",)))
    corpus.write_text('{"_id": "a", "text": "the cat", "vector": 1}\n')
    with pytest.raises(InputError, match="line 1: 'a' cannot be written as json: it has a field 'vector' of its own"):
        encode(expander, inputs, tmp_path / "out", fields=Fields(keep=("vector",)))
    for value, problem in (("NaN", "not JSON compliant"), ('"\\ud800"', "a lone surrogate")):
        corpus.write_text(f'{{"_id": "a", "text": "the cat", "url": {value}}}\n')
        with pytest.raises(InputError, match=problem):
            encode(expander, inputs, tmp_path / "out", fields=Fields(keep=("url",)))
    assert not list(tmp_path.glob("out*"))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", DECOMPRESS)
def test_a_compressed_output_resumes_at_a_frame(
    tmp_path: Path, bundle: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "FRAME", 20_000)
    inputs = [Input(str(write_corpus(tmp_path / "c.jsonl", 600, bad=True)))]
    expander = Expander(bundle, threads=1)
    encode(expander, inputs, tmp_path / "plain", skip_bad=True)
    encode(expander, inputs, tmp_path / f"expected{suffix}", skip_bad=True)
    expected = (tmp_path / f"expected{suffix}").read_bytes()
    assert DECOMPRESS[suffix](expected) == (tmp_path / "plain").read_bytes()
    out = tmp_path / f"out{suffix}"
    state, partial = out.with_name(f"{out.name}.partial.json"), out.with_name(f"{out.name}.partial")
    saved = [0]
    monkeypatch.setattr("spladerunner.bulk.job.SAVE_SECONDS", 0.0)
    monkeypatch.setattr("spladerunner.bulk.job.PROGRESS_SECONDS", 0.0)

    def stop(done: Progress) -> None:
        if done.documents > saved[-1] + 150:  # a frame has some 60
            raise StopError

    while not out.exists():
        try:
            encode(expander, inputs, out, skip_bad=True, progress=stop)
        except StopError:
            found = json.loads(state.read_bytes())
            saved.append(found["documents"])
            assert saved[-1] > saved[-2]
            frames = DECOMPRESS[suffix](partial.read_bytes()[: found["bytes"]])
            assert len(frames.splitlines()) == saved[-1]
    assert len(saved) > 2
    assert out.read_bytes() == expected
    assert out.with_name(f"{out.name}.bad.jsonl").read_bytes() == (tmp_path / "plain.bad.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("options", [["-o", "k.gz"], ["-o", "k.zst"], ["--windows", "passages", "-o", "k"]], ids=str)
def test_other_outputs_that_are_killed_again_and_again_are_the_same(
    tmp_path: Path, bundle: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 3000, bad=True)
    *others, flag, name = options
    common = ["encode", str(corpus), "--model", str(bundle), "--max-length", "8", "--skip-bad", *others, flag]
    small_frames = HASTY.replace(
        "import sys; ", "import sys; from spladerunner.bulk import resume; resume.FRAME = 9000; "
    )
    monkeypatch.setattr("tests.test_bulk_job.HASTY", small_frames)
    expected = f"expected{Path(name).suffix}"
    subprocess.run([sys.executable, "-c", small_frames, *common, str(tmp_path / expected)], check=True)
    assert killed_until_done([*common, str(tmp_path / name)], seed=5, least_kills=3) >= 2
    for suffix in ("", ".bad.jsonl"):
        assert (tmp_path / f"{name}{suffix}").read_bytes() == (tmp_path / f"{expected}{suffix}").read_bytes()
    assert not list(tmp_path.glob("*partial*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", STDOUT)
def test_standard_output_gets_the_lines(tmp_path: Path, bundle: Path, corpus: Path, name: str) -> None:
    arguments = ("encode", corpus, "--model", bundle, "-o")
    assert run(*arguments, tmp_path / "out").returncode == 0
    done = run(*arguments, name, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == (tmp_path / "out").read_text()
    assert done.stderr.startswith("spladerunner: encoded 5 texts to standard output; cut at 32 tokens: 1 of 5 texts")
    if name == STDOUT[1]:
        with (tmp_path / "redirected").open("wb") as file:
            subprocess.run([sys.executable, "-m", "spladerunner", *map(str, arguments), name], stdout=file, check=True)
        assert (tmp_path / "redirected").read_bytes() == (tmp_path / "out").read_bytes()
    assert names(tmp_path) <= {"c.jsonl", "out", "out.done.json", "redirected"}


@pytest.mark.slow
def test_a_pipe_gets_the_lines_and_standard_error_the_bad_ones(tmp_path: Path, bundle: Path) -> None:
    corpus, pipe = write_corpus(tmp_path / "c.jsonl", 60, bad=True), tmp_path / "pipe"
    expander = Expander(bundle)
    encode(expander, [Input(str(corpus))], tmp_path / "out", skip_bad=True)
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    done = run("encode", corpus, "--model", bundle, "--skip-bad", "-o", pipe)
    reader.join(60)
    assert read == [(tmp_path / "out").read_bytes()]
    *bad, last = done.stderr.splitlines()
    assert bad == (tmp_path / "out.bad.jsonl").read_text().splitlines()
    assert last == f"spladerunner: encoded 56 texts to {pipe}; 4 bad lines were printed on standard error"


def test_a_pipe_is_read_whole_and_cannot_be_sharded(tmp_path: Path, bundle: Path) -> None:
    corpus, pipe, expander = write_corpus(tmp_path / "c.jsonl", 20), tmp_path / "pipe.jsonl", Expander(bundle)
    encode(expander, [Input(str(corpus))], tmp_path / "out")
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(corpus.read_bytes(),), daemon=True)
    writer.start()
    encode(expander, [Input(str(pipe))], tmp_path / "piped")
    writer.join(60)
    assert (tmp_path / "piped").read_bytes() == (tmp_path / "out").read_bytes()
    with pytest.raises(InputError, match="Standard input and pipes cannot be sharded"):
        encode(expander, [Input(str(pipe))], tmp_path / "shard", shard=Shard(1, 2))


def test_a_log_tells_the_rate_and_the_time_left_every_some_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter([100.0, 100.0, 99.0 + progress.LOG_SECONDS, 100.0 + progress.LOG_SECONDS])
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))
    show = progress._log()
    for lines in (10, 500, 610):
        show(Progress(lines, 1210, 0, 0))
    assert capsys.readouterr().err == (
        f"spladerunner: 610 of 1,210 lines, {600 / progress.LOG_SECONDS:.1f} per second, "
        f"{tqdm.format_interval(progress.LOG_SECONDS)} left\n"
    )


@pytest.mark.slow
def test_a_reader_that_leaves_ends_the_command(bundle: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 20000)
    command = [sys.executable, "-m", "spladerunner", "encode", str(corpus), "--model", str(bundle), "-o", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["id"] == "0"
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 141


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--overlap", "3"], "--overlap: has no effect without argument --windows"),
        (["--windows", "max", "--overlap", "8"], "--overlap: overlap=8 is too large: a window has 8 tokens"),
        (["--windows", "max", "--overlap", "-1"], "'-1' is not an integer"),
        (["--max-ratio", "1.5"], "'1.5' is more than 1"),
        (["--min-weight", "0"], "'0' is not a positive number"),
        (["--keep", "url", "--format", "pgvector"], "--keep: only lines of these formats keep fields: json, indices"),
        (["--engine", "ray", "--keep", "url"], "--keep: only lines of these formats keep fields: json, indices"),
    ],
)
def test_options_that_do_not_fit_are_usage_errors(
    tmp_path: Path, bundle: Path, corpus: Path, arguments: list[str], message: str
) -> None:
    output = tmp_path / ("out/" if "--engine" in arguments else "out")
    done = run("encode", corpus, "--model", bundle, "--max-length", "10", "-o", f"{output}/", *arguments)
    assert done.returncode == 2 and message in done.stderr
    assert names(tmp_path) == {"c.jsonl"}
