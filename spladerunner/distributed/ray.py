"""Ray Data: the vectors of a Dataset, and the parts of a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from spladerunner.distributed.files import PartEncoder
from spladerunner.distributed.worker import TableEncoder, WorkerModel
from spladerunner.errors import requires_extra
from spladerunner.expander import Expander
from spladerunner.model.manifest import RoleName
from spladerunner.readers.lines import Start
from spladerunner.readers.records import BEIR, Fields

if TYPE_CHECKING:
    from ray.data import Dataset

__all__ = ["encode"]


def encode(
    dataset: Dataset,
    expander: Expander | None = None,
    *,
    role: RoleName = "doc",
    fields: Fields = BEIR,
    format: str = "indices",
    problem: str | None = None,
    compute: Any = None,
    batch_size: int | None = 1024,
    num_cpus: int = 1,
    **ray_arguments: Any,
) -> Dataset:
    """Adds the vectors of a column of texts to a Dataset of Ray Data, by map_batches on a pool of actors.

    expander: the model, by default the embedded pair. Each actor opens it once, from the same name or path, and it must
        have the same fingerprint there. role: "doc" or "query". fields: names of the columns.
    format: "indices" adds indices, list<int32>, and values, list<float32>; "json" adds vector, map<string, float32>.
    problem: a column for the reason why a row is bad, null for a good one; without it, a bad row raises InputError.
    compute: the pool, by default ActorPoolStrategy(), which Ray sizes. num_cpus: CPUs and threads of an actor.
    batch_size, ray_arguments: other arguments of map_batches.

    Raises InputError if a column is missing, and MissingExtraError if Ray is not installed.
    """
    ray_data = _ray_data()
    encoder = TableEncoder(WorkerModel.of(expander or Expander(), num_cpus), role, fields, format, problem)
    return dataset.map_batches(
        TableActor,
        fn_constructor_args=(encoder,),
        batch_format="pyarrow",
        batch_size=batch_size,
        compute=compute or ray_data.ActorPoolStrategy(),
        num_cpus=num_cpus,
        **ray_arguments,
    )


class TableActor:
    """Encodes tables; Ray Data keeps it as an actor."""

    def __init__(self, encoder: TableEncoder) -> None:
        encoder.model.open()
        self._encoder = encoder

    def __call__(self, batch: Any) -> Any:
        """Encodes an Arrow table."""
        return self._encoder.table(batch)


class PartActor:
    """Encodes parts; Ray Data keeps it as an actor."""

    def __init__(self, encoder: PartEncoder) -> None:
        self._encoder = encoder

    def __call__(self, start: dict[str, int]) -> dict[str, bytes]:
        """Encodes the part that begins at a line."""
        return {"result": self._encoder.result(Start(**start))}


def encode_parts(encoder: PartEncoder, starts: Sequence[Start]) -> Iterator[bytes]:
    """Encodes parts on the cluster at RAY_ADDRESS, or on a local one; as many actors as there are CPUs for."""
    ray_data = _ray_data()
    import ray

    ray.init(ignore_reinit_error=True)
    threads = encoder.model.threads
    most = max(1, min(len(starts), int(ray.cluster_resources()["CPU"]) // threads))
    parts = ray_data.from_items([asdict(start) for start in starts], override_num_blocks=len(starts)).map(
        PartActor,
        fn_constructor_args=(encoder,),
        compute=ray_data.ActorPoolStrategy(min_size=1, max_size=most, initial_size=most),
        num_cpus=threads,
    )
    for row in parts.iter_rows():
        yield row["result"]


def _ray_data() -> Any:
    with requires_extra("ray", "Ray Data"):
        import ray.data
    return ray.data
