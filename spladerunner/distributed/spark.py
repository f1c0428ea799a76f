"""Spark: the vectors of a DataFrame, and the parts of a folder; with Spark Connect, too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from spladerunner.distributed.files import PartEncoder
from spladerunner.distributed.worker import TableEncoder, WorkerModel
from spladerunner.errors import requires_extra
from spladerunner.expander import Expander
from spladerunner.model.manifest import RoleName
from spladerunner.parquet import table
from spladerunner.readers.lines import Start
from spladerunner.readers.records import BEIR, Fields

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["encode"]

_COLUMNS = {"indices": "indices array<int>, values array<float>", "json": "vector map<string,float>"}


def encode(
    dataframe: DataFrame,
    expander: Expander | None = None,
    *,
    role: RoleName = "doc",
    fields: Fields = BEIR,
    format: str = "indices",
    problem: str | None = None,
) -> DataFrame:
    """Adds the vectors of a column of texts to a DataFrame of Spark, by mapInArrow.

    expander: the model, by default the embedded pair. Each Python worker opens it once, from the same name or path,
        with a thread for each CPU of a task (spark.task.cpus), and keeps it for the tasks that follow; it must have the
        same fingerprint there. role: "doc" or "query". fields: names of the columns.
    format: "indices" adds indices, array<int>, and values, array<float>; "json" adds vector, map<string, float>.
    problem: a column for the reason why a row is bad, null for a good one; without it, a bad row raises InputError.

    Raises InputError if a column is missing, and MissingExtraError if PySpark is not installed.
    """
    with requires_extra("spark", "Spark"):
        from pyspark.sql.types import StringType, StructType
    model = WorkerModel.of(expander or Expander(), task_cpus(dataframe.sparkSession))
    encoder = TableEncoder(model, role, fields, format, problem)
    encoder.check(dataframe.columns)
    added = StructType.fromDDL(_COLUMNS[format])
    if problem is not None:
        added = added.add(problem, StringType())
    return dataframe.mapInArrow(encoder.batches, StructType([*dataframe.schema.fields, *added.fields]))


def encode_parts(encoder: PartEncoder, starts: Sequence[Start]) -> Iterator[bytes]:
    """Encodes parts in the session that spark-submit, SPARK_REMOTE or a Spark configuration gives, one a task."""
    session = spark_session()

    def encode_batches(batches: Iterable[Any]) -> Iterator[Any]:
        pa = table.pyarrow()
        for batch in batches:
            for number in batch.column("id").to_pylist():
                yield pa.RecordBatch.from_pydict({"result": [encoder.result(starts[number])]})

    parts = session.range(0, len(starts), 1, len(starts)).mapInArrow(encode_batches, "result binary")
    for row in parts.collect():
        yield bytes(row.result)


def spark_session() -> SparkSession:
    """The session of this process, or a new one."""
    with requires_extra("spark", "Spark"):
        from pyspark.sql import SparkSession
    return SparkSession.builder.getOrCreate()


def task_cpus(session: SparkSession) -> int:
    """The CPUs of a task."""
    return int(session.conf.get("spark.task.cpus", "1") or 1)
