"""Jobs that write Parquet: killed, resumed, sharded, refused."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from spladerunner import Expander, InputError, OutputError
from spladerunner.bulk import Shard, encode
from spladerunner.bulk import parts as bulk_parts
from spladerunner.filesystem import Folder
from spladerunner.parquet import Part, open_parts, read_vectors
from spladerunner.parquet.parts import write_part
from spladerunner.readers import Input
from tests.test_bulk_job import write_corpus
from tests.test_cli import COMMAND, run

OUTPUTS = ["vectors.parquet", "vectors/"]


def contents(output: Path) -> dict[str, bytes]:
    """The files of an output: of a folder, or with the same beginning of the name."""
    files = output.iterdir() if output.is_dir() else output.parent.glob(f"{output.name}*")
    return {file.name: file.read_bytes() for file in files}


def parts_of(output: Path) -> list[Path]:
    folder = Path(f"{output}.partial") if output.suffix else output
    return sorted(folder.glob("part-*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTPUTS)
def test_rows_are_vectors_in_order(tmp_path: Path, bundle: Path, name: str) -> None:
    corpus, expander = write_corpus(tmp_path / "c.jsonl", 120, bad=True), Expander(bundle)
    done = encode(expander, [Input(str(corpus))], f"{tmp_path}/{name}", skip_bad=True, part_lines=25)
    lines = encode(expander, [Input(str(corpus))], tmp_path / "lines", skip_bad=True, format="indices")
    assert (done.documents, done.bad, done.lines) == (lines.documents, lines.bad, lines.lines)
    expected = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    found = list(read_vectors(f"{tmp_path}/{name}"))
    assert [row[0] for row in found] == [row["id"] for row in expected]
    assert [row[1].indices.tolist() for row in found] == [row["indices"] for row in expected]
    assert [vector for _, vector in found] == [expander.vocabulary.vector(w) for w in maps(expander, corpus, tmp_path)]
    bad = b"".join(content for name, content in sorted(contents(tmp_path / name).items()) if name.endswith(".jsonl"))
    assert bad == (tmp_path / "lines.bad.jsonl").read_bytes()


def maps(expander: Expander, corpus: Path, folder: Path) -> list[dict[str, float]]:
    """The vectors of the corpus by way of Parquet maps of token to weight."""
    from pyarrow import parquet

    encode(expander, [Input(str(corpus))], f"{folder}/maps.parquet", skip_bad=True, format="json")
    return [dict(pairs) for pairs in parquet.read_table(folder / "maps.parquet").column("vector").to_pylist()]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shard"), [("vectors.parquet", "1/1"), ("vectors/", "2/3")])
def test_a_job_that_is_killed_again_and_again_writes_the_same_files(
    tmp_path: Path, bundle: Path, name: str, shard: str
) -> None:
    corpus, chosen = write_corpus(tmp_path / "corpus.jsonl", 2000, bad=True), random.Random(3)
    common = ["encode", str(corpus), "--model", str(bundle), "--skip-bad", "--shard", shard, "--part-lines", "100"]
    (tmp_path / "killed").mkdir()
    (tmp_path / "expected").mkdir()
    assert run(*common, "-o", f"{tmp_path}/expected/{name}").returncode == 0
    output, kills = tmp_path / "killed" / name, 0
    while True:
        before = len(parts_of(output))
        process = subprocess.Popen([*COMMAND, *common, "-o", f"{tmp_path}/killed/{name}"], stderr=subprocess.PIPE)
        while process.poll() is None and kills < 4:  # until it got on, then a moment more
            if len(parts_of(output)) > before:
                time.sleep(chosen.random() * 0.1)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        error = process.communicate()[1]
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, error
        kills += 1
    assert kills >= 2
    assert contents(output) == contents(tmp_path / "expected" / name)
    assert not list(tmp_path.rglob("*partial*"))


class StopError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_job_that_ends_at_any_write_resumes(
    tmp_path: Path, bundle: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, expander = write_corpus(tmp_path / "c.jsonl", 60, bad=True), Expander(bundle)
    writing, calls, stop_at = Folder.writing, 0, 0

    def stopping(folder: Folder, file: str):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise StopError
        return writing(folder, file)

    def write(into: str) -> dict[str, bytes]:
        nonlocal calls
        calls = 0
        (tmp_path / into).mkdir(exist_ok=True)
        encode(expander, [Input(str(corpus))], f"{tmp_path}/{into}/{name}", skip_bad=True, part_lines=30)
        return contents(tmp_path / into / name)

    monkeypatch.setattr(Folder, "writing", stopping)
    expected, writes = write("expected"), calls
    assert writes == (6 if name == "vectors/" else 8)  # 3 parts, 2 files of bad lines, the manifest; 2 joined files
    for step in range(1, writes + 1):
        stop_at = step
        with pytest.raises(StopError):
            write(str(step))
        stop_at = 0
        assert write(str(step)) == expected


@pytest.mark.parametrize("name", OUTPUTS)
def test_parts_that_are_there_are_not_encoded_again(
    tmp_path: Path, bundle: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, expander = write_corpus(tmp_path / "c.jsonl", 60), Expander(bundle)
    output = f"{tmp_path}/{name}"
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(corpus.read_bytes() + b"{\n")
    with pytest.raises(InputError, match="line 61"):
        encode(expander, [Input(str(broken))], output, part_lines=20)
    assert len(parts_of(tmp_path / name)) == 3
    written: list[int] = []

    def recorded(*arguments: Any) -> Part:
        written.append(arguments[2])
        return write_part(*arguments)

    monkeypatch.setattr(bulk_parts, "write_part", recorded)
    done = encode(expander, [Input(str(broken))], output, part_lines=20, skip_bad=True)
    assert (done.documents, done.bad, written) == (60, 1, [3])
    assert encode(expander, [Input(str(broken))], output, part_lines=20, skip_bad=True).documents == 60
    assert written == [3]


@pytest.mark.parametrize("name", OUTPUTS)
def test_another_job_is_refused_before_the_end_and_after(tmp_path: Path, bundle: Path, name: str) -> None:
    corpus, expander = write_corpus(tmp_path / "c.jsonl", 60), Expander(bundle)
    corpus.write_bytes(corpus.read_bytes() + b"{\n")
    inputs, output = [Input(str(corpus))], f"{tmp_path}/{name}"
    with pytest.raises(InputError, match="line 61"):
        encode(expander, inputs, output, part_lines=20)
    for _ in range(2):
        for other, message in (
            ({"role": "query"}, "role"),
            ({"part_lines": 30}, "part_lines"),
            ({"shard": Shard(1, 2)}, "shard"),
            ({"format": "json"}, "format"),
        ):
            with pytest.raises(OutputError, match=f"(another {message}|exists already)"):
                encode(expander, inputs, output, **{"part_lines": 20, **other})  # type: ignore[arg-type]
        with pytest.raises(OutputError, match=r"(another fingerprint|exists already)"):
            encode(Expander(bundle, 8), inputs, output, part_lines=20)
        encode(expander, inputs, output, part_lines=20, skip_bad=True)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_shard_that_stopped_at_a_bad_line_is_resumed_where_it_was(tmp_path: Path, bundle: Path, name: str) -> None:
    corpus, expander = write_corpus(tmp_path / "c.jsonl", 120), Expander(bundle)
    lines = corpus.read_bytes().splitlines(keepends=True)
    lines[115] = b"{\n"
    corpus.write_bytes(b"".join(lines))
    inputs, shard = [Input(str(corpus))], Shard(2, 2)
    whole, resumed = tmp_path / "whole" / name, tmp_path / "resumed" / name
    for output in (whole, resumed):
        output.parent.mkdir()
    with pytest.raises(InputError, match="line 116"):
        encode(expander, inputs, f"{resumed}{'' if resumed.suffix else '/'}", part_lines=20, shard=shard)
    assert len(parts_of(resumed)) == 2
    for output in (whole, resumed):
        url = f"{output}{'' if output.suffix else '/'}"
        assert encode(expander, inputs, url, part_lines=20, shard=shard, skip_bad=True).documents == 59
    assert contents(resumed) == contents(whole)


def test_a_finished_folder_is_not_taken_for_that_of_another_role(tmp_path: Path, bundle: Path) -> None:
    expander, inputs = Expander(bundle), [Input(str(write_corpus(tmp_path / "c.jsonl", 60)))]
    encode(expander, inputs, f"{tmp_path}/out/", part_lines=20)
    assert encode(expander, inputs, f"{tmp_path}/out/", part_lines=20).repeated
    with pytest.raises(OutputError, match="another role"):
        encode(expander, inputs, f"{tmp_path}/out/", part_lines=20, role="query")


def test_parts_that_a_kill_left_beside_the_finished_file_are_removed(tmp_path: Path, bundle: Path) -> None:
    expander, inputs = Expander(bundle), [Input(str(write_corpus(tmp_path / "corpus.jsonl", 20)))]
    encode(expander, inputs, tmp_path / "v.parquet")
    left = tmp_path / "v.parquet.partial"
    left.mkdir()
    (left / "part-000000.parquet").write_bytes(b"one of the parts, when the file was joined already")
    assert encode(expander, inputs, tmp_path / "v.parquet").repeated
    assert not left.exists()


def test_changed_lines_are_an_error(tmp_path: Path, bundle: Path) -> None:
    corpus, expander = write_corpus(tmp_path / "c.jsonl", 60), Expander(bundle)
    content = corpus.read_bytes() + b"{\n"
    corpus.write_bytes(content)
    with pytest.raises(InputError, match="line 61"):
        encode(expander, [Input(str(corpus))], f"{tmp_path}/out/", part_lines=20)
    corpus.write_bytes(content.replace(b"cat", b"dog", 1))  # in the first of three parts
    with pytest.raises(OutputError, match="inputs have changed"):
        encode(expander, [Input(str(corpus))], f"{tmp_path}/out/", part_lines=20, skip_bad=True)


def test_outputs_that_are_not_ours_are_left_alone(tmp_path: Path, bundle: Path) -> None:
    corpus, expander = write_corpus(tmp_path / "c.jsonl", 5), Expander(bundle)
    inputs = [Input(str(corpus))]
    (tmp_path / "a.parquet").write_bytes(b"of another")
    with pytest.raises(OutputError, match="exists already"):
        encode(expander, inputs, tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == b"of another"
    with pytest.raises(OutputError, match=r"has other files: \['a\.parquet'"):
        encode(expander, inputs, tmp_path)
    with pytest.raises(ValueError, match="'qdrant' is not a format of vectors in Parquet: indices, json"):
        encode(expander, inputs, tmp_path / "b.parquet", format="qdrant")
    with pytest.raises(OutputError, match=r"s3://bucket/lines\.jsonl would be a file of lines"):
        encode(expander, inputs, "s3://bucket/lines.jsonl")
    with pytest.raises(OutputError, match="PyArrow cannot open nosuch://bucket/"):
        encode(expander, inputs, "nosuch://bucket/")
    lock = Folder(f"{tmp_path}/locked")
    lock.lock()
    with pytest.raises(OutputError, match="is being written by another process"):
        encode(expander, inputs, f"{tmp_path}/locked/")
    lock.unlock()
    assert encode(expander, inputs, f"{tmp_path}/locked/").documents == 5


def test_an_input_without_texts_gives_one_empty_part(tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "c.jsonl").write_text("\n\n")
    encode(Expander(bundle), [Input(str(tmp_path / "c.jsonl"))], f"{tmp_path}/out/")
    assert open_parts(f"{tmp_path}/out").rows == 0 and list(read_vectors(f"{tmp_path}/out")) == []


def test_files_are_read_and_written_by_their_url(tmp_path: Path, bundle: Path) -> None:
    corpus, expander = write_corpus(tmp_path / "c.jsonl", 60), Expander(bundle)
    encode(expander, [Input(corpus.as_uri())], f"{tmp_path.as_uri()}/url.parquet", part_lines=25)
    encode(expander, [Input(str(corpus))], f"{tmp_path}/path.parquet", part_lines=25)
    found = list(read_vectors(f"{tmp_path.as_uri()}/url.parquet"))
    assert found == list(read_vectors(f"{tmp_path}/path.parquet")) and len(found) == 60
    with pytest.raises(FileNotFoundError, match=r"no file file:///no/such\.jsonl"):
        encode(expander, [Input("file:///no/such.jsonl")], f"{tmp_path}/x.parquet")


@pytest.mark.slow
def test_the_command_says_which_formats_parquet_has(tmp_path: Path) -> None:
    done = run("encode", "c.tsv", "-o", f"{tmp_path}/v.parquet", "--format", "qdrant")
    assert done.returncode == 2 and "--format qdrant is not one of: indices, json" in done.stderr
