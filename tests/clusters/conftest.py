from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyarrow import parquet

from spladerunner import Expander, SparseVector
from spladerunner.bulk import encode
from spladerunner.readers import Input
from tests.small_model import write_bundle
from tests.test_bulk_job import write_corpus

# Ray joins the cluster whose address is in its folder, also that of a run that was killed, so each run has a folder of
# its own. Its name is short, since it begins the paths of sockets.
RAY_FOLDER = tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True)

os.environ |= {
    "PYSPARK_PYTHON": sys.executable,
    "RAY_TMPDIR": RAY_FOLDER.name,
    "RAY_USAGE_STATS_ENABLED": "0",
    "SPARK_LOCAL_IP": "127.0.0.1",
}
PART_LINES = 400


@dataclass
class Job:
    """A corpus with bad lines, the model in a folder, and the folder of parts that one process makes."""

    corpus: Path
    bundle: Path
    expected: Path

    @property
    def parts(self) -> int:
        return len(list(self.expected.glob("part-*")))

    def command(self, engine: str, output: Path) -> list[str]:
        options = ["--model", str(self.bundle), "--skip-bad", "--part-lines", str(PART_LINES), "-o", f"{output}/"]
        return [sys.executable, "-m", "spladerunner", "encode", str(self.corpus), "--engine", engine, *options]

    def rows(self, count: int) -> list[dict[str, object]]:
        """The first good records."""
        found: list[dict[str, object]] = []
        for line in self.corpus.read_bytes().splitlines():
            if line and not line.startswith(b"{broken"):
                found.append({**json.loads(line), "n": len(found)})
        return found[:count]

    def vectors(self, count: int) -> list[SparseVector]:
        """Their vectors, by one process."""
        return Expander(self.bundle).encode([f"{row['title']} {row['text']}" for row in self.rows(count)])


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("job")
    bundle = write_bundle(folder / "bundle")
    corpus = write_corpus(folder / "corpus.jsonl", 8000)
    lines = corpus.read_bytes().splitlines(keepends=True)
    for at in range(11, len(lines), 900):
        lines[at] = b"{broken \xff\n"
    corpus.write_bytes(b"".join(lines))
    encode(Expander(bundle), [Input(str(corpus))], f"{folder}/expected/", part_lines=PART_LINES, skip_bad=True)
    return Job(corpus, bundle, folder / "expected")


def assert_same_folder(found: Path, expected: Path) -> None:
    """Two folders have the same files, byte for byte; a difference is told from the inside of a part outwards."""
    names = [sorted(file.name for file in folder.iterdir()) for folder in (found, expected)]
    assert names[0] == names[1]
    for name in names[1]:
        paths = found / name, expected / name
        if name.endswith(".parquet"):
            tables = [parquet.read_table(path) for path in paths]
            assert tables[0].schema.metadata == tables[1].schema.metadata, name
            for row, other in zip(tables[0].to_pylist(), tables[1].to_pylist(), strict=True):
                assert row == other, name
        assert paths[0].read_bytes() == paths[1].read_bytes(), name
