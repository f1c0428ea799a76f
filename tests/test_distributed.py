"""What runs on a cluster's workers, here in this process; tests/clusters runs it on real clusters."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from spladerunner import Expander, InputError, ModelFilesError, OutputError, SpladeRunnerError
from spladerunner.bulk import encode
from spladerunner.bulk.vectors import Vectors
from spladerunner.distributed.files import PartEncoder, encode_files
from spladerunner.distributed.worker import TableEncoder, WorkerModel
from spladerunner.readers import Fields, Input
from spladerunner.readers.lines import Start
from tests.hub_server import Hub
from tests.small_model import change_manifest
from tests.test_bulk_job import write_corpus
from tests.test_bulk_parts import contents
from tests.test_cli import run

ROWS = [
    {"_id": "a", "title": "the cat", "text": "sat on", "n": 1},
    {"_id": "b", "title": None, "text": None, "n": 2},
    {"_id": "c", "title": None, "text": "the mat", "n": 3},
    {"_id": None, "title": None, "text": "the dog", "n": 4},
    {"_id": "e", "title": None, "text": "", "n": 5},
]


def engine(encoder: PartEncoder, starts: Sequence[Start]) -> Iterator[bytes]:
    """Runs parts as a cluster may: in any order, some of them twice, each by its own copy of the encoder."""
    order = [*starts, *starts[::2]]
    random.Random(5).shuffle(order)
    for start in order:
        yield pickle.loads(pickle.dumps(encoder)).result(start)


@pytest.mark.parametrize("format", ["indices", "json"])
def test_a_table_gets_the_vectors_of_one_process_and_keeps_its_columns(bundle: Path, format: str) -> None:
    expander = Expander(bundle)
    encoder = TableEncoder(WorkerModel.of(expander, 1), format=format, problem="problem")
    (found,) = [pa.Table.from_batches([batch]) for batch in encoder.batches(pa.Table.from_pylist(ROWS).to_batches())]
    assert found.select(["_id", "title", "text", "n"]).to_pylist() == ROWS
    assert found.column("problem").to_pylist() == [
        None,
        "no text: 'text' is missing or null, not a string",
        None,
        "no id: '_id' is missing or null, not a string or an integer",
        None,
    ]
    first, third, last = expander.encode(["the cat sat on", "the mat", ""])
    if format == "indices":
        vectors = [first, None, third, None, last]
        for name in ("indices", "values"):
            expected = [None if vector is None else getattr(vector, name).tolist() for vector in vectors]
            assert found.column(name).to_pylist() == expected
        types = [str(found.schema.field(name).type) for name in ("indices", "values")]
        assert types == ["list<element: int32>", "list<element: float>"]
    else:
        maps = [list(expander.vocabulary.weights(vector).items()) for vector in (first, third, last)]
        assert found.column("vector").to_pylist() == [maps[0], None, maps[1], None, maps[2]]


def test_a_bad_row_or_column_is_an_error_with_its_name(bundle: Path) -> None:
    model = WorkerModel.of(Expander(bundle), 1)
    table = pa.Table.from_pylist(ROWS)
    with pytest.raises(InputError, match=r"row with the _id 'b' is bad: no text: 'text' is missing or null"):
        TableEncoder(model).table(table)
    with pytest.raises(InputError, match=r"no column 'body' among \['_id'.*fields=Fields"):
        TableEncoder(model, fields=Fields(text="body")).table(table)
    with pytest.raises(InputError, match="a column 'indices' already"):
        TableEncoder(model).table(table.append_column("indices", table.column("n")))
    with pytest.raises(ValueError, match="format='qdrant' is not one of: indices, json"):
        TableEncoder(model, format="qdrant")


def test_a_worker_opens_a_model_once_and_refuses_another_one(bundle: Path) -> None:
    expander = Expander(bundle, {"doc": 9}, threads=2)
    model = pickle.loads(pickle.dumps(WorkerModel.of(expander, 3)))
    opened = model.open()
    assert opened.fingerprint == expander.fingerprint
    assert repr(opened) == "Expander('small', max_length={'doc': 9, 'query': 16}, threads=3)"
    assert WorkerModel.of(expander, 3).open() is opened
    for other, says in (
        (replace(model, fingerprint="0" * 64), f"fingerprint {expander.fingerprint}, not 000"),
        (replace(model, versions=(("onnxruntime", "0.1"),)), r"onnxruntime [\d.]+, not 0\.1"),
    ):
        with pytest.raises(ModelFilesError, match=f"would make other vectors than the driver: it has {says}"):
            other.open()


@pytest.mark.slow
def test_the_workers_of_a_node_download_a_model_once(hub: Hub, tmp_path: Path, bundle: Path) -> None:
    code = (
        "import sys, pickle; from spladerunner.distributed.worker import WorkerModel; "
        "model = pickle.loads(bytes.fromhex(sys.argv[1])); print(model.open().fingerprint)"
    )
    hub.add_folder("owner/bundle", bundle)
    model = WorkerModel.of(Expander(bundle), 1)
    arguments = {**dict(model.arguments), "model": "owner/bundle"}
    remote = pickle.dumps(replace(model, arguments=tuple(sorted(arguments.items())))).hex()
    downloads = []
    for count in (1, 3):
        environment = {**os.environ, "HF_HOME": str(tmp_path / str(count)), "HF_ENDPOINT": hub.endpoint}
        command = [sys.executable, "-c", code, remote]
        workers = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        assert {worker.communicate()[0].strip() for worker in workers} == {model.fingerprint}
        downloads.append(sorted(hub.downloads()))
        hub.requests.clear()
    assert downloads[1] == downloads[0]


def test_an_engine_writes_the_folder_of_one_process(tmp_path: Path, bundle: Path) -> None:
    expander = Expander(bundle)
    inputs = [Input(str(write_corpus(tmp_path / f"{n}.jsonl", 100 + n, bad=True))) for n in range(2)]
    (tmp_path / "more.txt").write_text("the cat\r\nthe dog\n" * 20)
    inputs.append(Input(str(tmp_path / "more.txt")))
    for number, source in enumerate(inputs):  # ids are compared within a part on an engine
        text = Path(source.path).read_text(encoding="utf-8", errors="surrogateescape")
        text = text.replace('"_id": "', f'"_id": "{number}-')
        Path(source.path).write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
    expected = encode(expander, inputs, f"{tmp_path}/expected/", skip_bad=True, part_lines=40)
    done = encode_files(expander, 1, inputs, f"{tmp_path}/engine/", engine, skip_bad=True, part_lines=40)
    assert done == expected and done.bad > 0
    assert contents(tmp_path / "engine") == contents(tmp_path / "expected")
    again = encode_files(expander, 1, inputs, f"{tmp_path}/engine/", engine, skip_bad=True, part_lines=40)
    assert again == replace(done, repeated=True)
    changed = Path(inputs[1].path)
    changed.write_text(changed.read_text(errors="surrogateescape").replace("cat", "dog", 1), errors="surrogateescape")
    with pytest.raises(OutputError, match="inputs have changed: the lines of part-"):
        encode_files(expander, 1, inputs, f"{tmp_path}/engine/", engine, skip_bad=True, part_lines=40)


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"top": 3}, 60),
        ({"min_weight": 0.3, "max_ratio": 0.5}, 60),
        ({"windows": "max"}, 60),
        ({"windows": "passages", "overlap": 1, "top": 2}, 150),
    ],
)
def test_an_engine_prunes_and_reads_long_texts_as_one_process_does(
    tmp_path: Path, bundle: Path, options: dict[str, Any], rows: int
) -> None:
    corpus = tmp_path / "c.tsv"
    corpus.write_text("".join(f"d{n}\t{'the cat sat on the mat ' * (1 + n % 4)}\n" for n in range(60)))
    expander, inputs = Expander(bundle, {"doc": 10}), [Input(str(corpus))]
    expected = encode(expander, inputs, f"{tmp_path}/expected/", part_lines=16, **options)
    vectors = Vectors(**options)
    done = encode_files(expander, 1, inputs, f"{tmp_path}/engine/", engine, part_lines=16, vectors=vectors)
    assert done == expected and done.documents == rows
    assert contents(tmp_path / "engine") == contents(tmp_path / "expected")
    whole = encode_files(expander, 1, inputs, f"{tmp_path}/whole/", engine, part_lines=16)
    assert contents(tmp_path / "whole") != contents(tmp_path / "engine") and whole.documents == 60


def test_parquet_and_compressed_inputs_are_read_from_any_part(tmp_path: Path, bundle: Path) -> None:
    import gzip

    from pyarrow import parquet

    expander = Expander(bundle)
    rows = [{"_id": f"p{n}", "text": f"the cat {n}"} for n in range(45)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=7)
    (tmp_path / "b.tsv.gz").write_bytes(gzip.compress(b"".join(b"z%d\tthe dog %d\n" % (n, n) for n in range(33))))
    inputs = [Input(str(tmp_path / name)) for name in ("a.parquet", "b.tsv.gz")]
    encode(expander, inputs, f"{tmp_path}/expected/", part_lines=10)
    encode_files(expander, 1, inputs, f"{tmp_path}/engine/", engine, part_lines=10)
    assert contents(tmp_path / "engine") == contents(tmp_path / "expected")


def test_an_engine_goes_on_where_one_process_stopped_and_the_other_way(tmp_path: Path, bundle: Path) -> None:
    expander, corpus = Expander(bundle), write_corpus(tmp_path / "c.jsonl", 95)
    inputs = [Input(str(corpus))]
    content = corpus.read_bytes()
    encode(expander, inputs, f"{tmp_path}/expected/", part_lines=20)

    def stopping(encoder: PartEncoder, starts: Sequence[Start]) -> Iterator[bytes]:
        for start in starts[::2]:
            yield encoder.result(start)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_files(expander, 1, inputs, f"{tmp_path}/out/", stopping, part_lines=20)
    written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("part-*")}
    assert len(written) == 3 and not (tmp_path / "out" / "_manifest.json").exists()
    with pytest.raises(OutputError, match="another format"):
        encode_files(expander, 1, inputs, f"{tmp_path}/out/", engine, part_lines=20, format="json")
    corpus.write_bytes(content.replace(b"cat", b"dog"))
    with pytest.raises(OutputError, match="inputs have changed: the lines of part-00000"):
        encode_files(
            expander, 1, inputs, f"{tmp_path}/out/", lambda e, s: (e.result(each) for each in s[::2]), part_lines=20
        )
    corpus.write_bytes(content)
    encode_files(expander, 1, inputs, f"{tmp_path}/out/", engine, part_lines=20)
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")
    assert all((tmp_path / "out" / name).stat().st_mtime_ns == time for name, time in written.items())

    (tmp_path / "out" / "_manifest.json").unlink()
    (tmp_path / "out" / "part-000001.parquet").unlink()
    encode(expander, inputs, f"{tmp_path}/out/", part_lines=20)
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")


def test_what_an_engine_cannot_do_is_an_error(tmp_path: Path, bundle: Path) -> None:
    expander, corpus = Expander(bundle), write_corpus(tmp_path / "c.jsonl", 100, bad=True)
    inputs = [Input(str(corpus))]
    with pytest.raises(InputError, match=r"c\.jsonl, line 8: .*--skip-bad"):
        encode_files(expander, 1, inputs, f"{tmp_path}/bad/", engine, part_lines=40)
    with pytest.raises(InputError, match="standard input cannot be read by several workers"):
        encode_files(expander, 1, [Input("-", "text")], f"{tmp_path}/pipe/", engine)
    with pytest.raises(ValueError, match="overlap=3 has no effect without windows"):
        encode_files(expander, 1, inputs, f"{tmp_path}/overlap/", engine, vectors=Vectors(overlap=3))
    with pytest.raises(SpladeRunnerError, match="given 2 of 3 parts"):
        encode_files(
            expander,
            1,
            inputs,
            f"{tmp_path}/lost/",
            lambda encoder, starts: map(encoder.result, starts[:-1]),
            part_lines=40,
            skip_bad=True,
        )
    assert not (tmp_path / "lost" / "_manifest.json").exists()

    def replacing(encoder: PartEncoder, starts: Sequence[Start]) -> Iterator[bytes]:
        change_manifest(bundle, license="MIT")  # after the driver has opened the model
        return engine(encoder, starts)

    with pytest.raises(ModelFilesError, match="would make other vectors than the driver"):
        encode_files(expander, 2, inputs, f"{tmp_path}/mixed/", replacing, part_lines=40, skip_bad=True)


def test_a_part_of_a_longer_input_is_not_mixed_in(tmp_path: Path, bundle: Path) -> None:
    expander, corpus = Expander(bundle), write_corpus(tmp_path / "c.jsonl", 40)
    inputs = [Input(str(corpus))]
    encode_files(expander, 1, inputs, f"{tmp_path}/out/", engine, part_lines=10)
    (tmp_path / "out" / "_manifest.json").unlink()
    corpus.write_bytes(b"".join(corpus.read_bytes().splitlines(keepends=True)[:20]))
    with pytest.raises(OutputError, match=r"parts of another input: \['part-000002"):
        encode_files(expander, 1, inputs, f"{tmp_path}/out/", engine, part_lines=10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "v.parquet"), "argument --engine: v.parquet is not a folder of parts; end it in /"),
        (("-o", "v/", "--shard", "1/2"), "argument --engine: not allowed with argument --shard"),
    ],
)
def test_the_command_refuses_what_does_not_go_together(arguments: tuple[str, ...], message: str) -> None:
    done = run("encode", "c.tsv", "--engine", "ray", *arguments)
    assert done.returncode == 2 and message in done.stderr


@pytest.mark.slow
def test_a_missing_engine_names_its_extra(tmp_path: Path, bundle: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", 4)
    for name in ("ray", "pyspark"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(
            f"raise ModuleNotFoundError('No module named {name}', name='{name}')"
        )
    for engine, extra in (("ray", "ray"), ("spark", "spark")):
        done = run(
            *("encode", str(corpus), "--model", str(bundle), "--engine", engine, "-o", f"{tmp_path}/{engine}-parts/"),
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
        )
        assert done.returncode == 1 and f"pip install 'spladerunner[{extra}]'" in done.stderr
