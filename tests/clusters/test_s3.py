"""Texts and vectors on an S3-compatible store: moto's server on loopback, by PyArrow's own S3 client."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from spladerunner import Expander, InputError, OutputError
from spladerunner.bulk import encode
from spladerunner.distributed.files import encode_files
from spladerunner.filesystem import Folder
from spladerunner.parquet import open_parts, read_vectors
from spladerunner.readers import Input
from tests.test_distributed import engine

pytestmark = pytest.mark.filterwarnings("ignore")  # moto and boto on themselves


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket's URL, found by the environment variables of AWS."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    from pyarrow import fs

    filesystem = fs.S3FileSystem(
        endpoint_override=f"{host}:{port}", scheme="http", region="us-east-1", allow_bucket_creation=True
    )
    name = f"bucket-{uuid.uuid4().hex}"  # moto keeps buckets from one server to the next
    filesystem.create_dir(name)
    yield f"s3://{name}"
    server.stop()


def test_a_job_from_store_to_store_resumes_by_whole_parts(bucket: str, bundle: Path, tmp_path: Path) -> None:
    expander = Expander(bundle)
    corpus = b"".join(b"d%d\tthe cat sat %d\n" % (n, n) for n in range(95))
    (tmp_path / "corpus.tsv").write_bytes(corpus)
    folder = Folder(f"{bucket}/texts")
    folder.write("corpus.tsv", corpus + b"bad\n")
    source = [Input(f"{bucket}/texts/corpus.tsv")]
    with pytest.raises(InputError, match=r"corpus\.tsv, line 96"):
        encode(expander, source, f"{bucket}/vectors/", part_lines=20)
    assert Folder(f"{bucket}/vectors").names() == [f"part-00000{n}.parquet" for n in range(4)]
    with pytest.raises(InputError, match=r"no _manifest\.json"):
        open_parts(f"{bucket}/vectors")
    with pytest.raises(OutputError, match="another role"):
        encode(expander, source, f"{bucket}/vectors/", part_lines=20, role="query")
    done = encode(expander, source, f"{bucket}/vectors/", part_lines=20, skip_bad=True)
    assert (done.documents, done.bad) == (95, 1)
    parts = open_parts(f"{bucket}/vectors")
    parts.check()
    expected = [(f"d{n}", vector) for n, vector in enumerate(expander.encode([f"the cat sat {n}" for n in range(95)]))]
    assert list(read_vectors(f"{bucket}/vectors/")) == expected
    assert [row for part in parts.parts for row in parts.vectors(part)] == expected

    encode_files(expander, 1, source, f"{bucket}/engine/", engine, part_lines=20, skip_bad=True)
    files = {name: Folder(f"{bucket}/vectors").read(name) for name in Folder(f"{bucket}/vectors").names()}
    assert files == {name: Folder(f"{bucket}/engine").read(name) for name in Folder(f"{bucket}/engine").names()}

    encode(expander, source, f"{bucket}/one.parquet", part_lines=20, skip_bad=True)
    assert list(read_vectors(f"{bucket}/one.parquet")) == expected
    assert Folder(bucket).names() == ["one.parquet", "one.parquet.bad.jsonl"]
    assert encode(expander, source, f"{bucket}/one.parquet", part_lines=20, skip_bad=True).documents == 95


def test_options_of_the_store_may_stand_in_the_url(bucket: str, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    from urllib.parse import quote

    address = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    options = f"?scheme=http&region=us-east-1&endpoint_override={quote(address, safe='')}"
    Folder(f"{bucket}/texts{options}").write("corpus.txt", b"the cat\nthe dog\n")
    source = [Input(f"{bucket}/texts/corpus.txt{options}")]
    encode(Expander(bundle), source, f"{bucket}/one.parquet{options}", part_lines=1)
    encode(Expander(bundle), source, f"{bucket}/parts/{options}", part_lines=1)
    rows = list(read_vectors(f"{bucket}/one.parquet{options}"))
    assert [name for name, _ in rows] == ["1", "2"]
    assert list(read_vectors(f"{bucket}/parts/{options}")) == rows
    assert open_parts(f"{bucket}/parts{options}").rows == 2
