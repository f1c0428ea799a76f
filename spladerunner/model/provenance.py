"""Origin of a bundle, as manifest.json records it. Export writes it and cards show it; a run does not need it.

A module of its own because each dataclass costs the start of every run half a millisecond.
"""

# Annotations are not postponed here, as in manifest.py.
from collections.abc import Mapping
from dataclasses import dataclass

from spladerunner.model.manifest import Manifest, RoleName


@dataclass(frozen=True)
class GraphAgreement:
    """Agreement of a graph with its checkpoint, measured at export over `texts` texts.

    fp32_largest_difference: of a weight by the graph as converted. The other figures are of the bundle's graph against
    the checkpoint. fp32_ms, ms: milliseconds a text on one thread. fp32_bytes, bytes: sizes with external data.
    lost_weight: share of the checkpoint's weights that are at vocabulary entries which the graph lacks, None if it has
    all of them; the other figures are of those that it has.
    """

    texts: int
    fp32_largest_difference: float
    worst_cosine: float
    worst_text: str
    mean_cosine: float
    mean_shared_top20: float
    mean_weights: float
    fp32_ms: float
    ms: float
    fp32_bytes: int
    bytes: int
    lost_weight: float | None = None


@dataclass(frozen=True)
class CopyAgreement:
    """Agreement with its source of what an export copies, measured over `texts` texts.

    That are token weights, and a graph that was quantized before the export.
    """

    texts: int
    largest_difference: float
    mean_weights: float
    ms: float
    bytes: int


Agreement = GraphAgreement | CopyAgreement


@dataclass(frozen=True)
class Verification:
    """Measurements at export. A role that is served by the other's graph has none of its own."""

    machine: str
    roles: Mapping[RoleName, Agreement]
    shortfalls: tuple[str, ...] = ()


@dataclass(frozen=True)
class MadeBy:
    """Versions and command that made a bundle.

    command: that made it. versions: of the packages that it used. converter: "optimum" or "transformers.exporters",
    which converted the checkpoints, or "as published" for graphs.
    """

    command: str
    versions: Mapping[str, str]
    converter: str | None = None


@dataclass(frozen=True)
class ExportManifest(Manifest):
    """Content of manifest.json in full. Schema 1 is read without verification and made_by."""

    verification: Verification | None = None
    made_by: MadeBy | None = None
