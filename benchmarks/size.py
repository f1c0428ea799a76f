"""Sizes: an installation by package, beside those of its peers, and graphs before and after the export.

python -m benchmarks.size SHARED FOLDER
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.environments import own_python, python_of
from benchmarks.harness import argument_parser, markdown_table, save_result
from benchmarks.workload import SHAPES, bundle_of, fp32_of, prepare

OWN = "spladerunner"
PEERS = {
    "FastEmbed": "fastembed",
    "SPLADERunner 0.1.6": "spladerunner-0.1",
    "sentence-transformers (torch, ONNX, OpenVINO)": "sentence-transformers",
}
INSTALLERS = ("pip", "setuptools", "wheel", "_distutils_hack", "pkg_resources")
"""Packages of every environment, not counted."""

GRAPHS = {
    "bert-base": "BERT-base, vocabulary 30,522",
    "distilbert": "DistilBERT",
    "bert-tiny": "BERT-tiny",
    "tiny-en": "document model of the embedded pair",
}
LEAST_MB = 0.5
"""Smaller packages share a row."""


def measure(site_packages: Path) -> dict[str, float]:
    """Megabytes by package; metadata and shared libraries count with their package."""
    found: dict[str, float] = {}
    for entry in site_packages.iterdir():
        name = entry.name.split("-")[0].removesuffix(".libs").removesuffix(".py")
        if name in INSTALLERS or name.startswith("distutils-precedence"):
            continue
        files = [path for path in entry.rglob("*") if path.is_file()] if entry.is_dir() else [entry]
        found[name] = found.get(name, 0) + sum(path.stat().st_size for path in files) / 1e6
    return found


def graphs(folder: Path, shape: str) -> dict[str, float]:
    """Megabytes of the float32 graph as converted, and of the bundle's graph, with their external data."""

    def megabytes(graph: Path) -> float:
        return sum(path.stat().st_size for path in graph.parent.glob(f"{graph.name}*")) / 1e6

    converted, exported = fp32_of(folder, shape) / "model.onnx", bundle_of(folder, shape) / "doc.onnx"
    return {"float32": megabytes(converted), "int8": megabytes(exported)}


def report(installed: Mapping[str, Mapping[str, float]]) -> str:
    """Totals of every system, and the packages of spladerunner's installation, the largest first."""
    totals = {name: sum(installed[name].values()) for name in (OWN, *PEERS)}
    own = sorted(installed[OWN].items(), key=lambda item: -item[1])
    packages = [[name, f"{mb:.1f}"] for name, mb in own if mb >= LEAST_MB]
    rest = sum(mb for _, mb in own if mb < LEAST_MB)
    return "\n\n".join(
        [
            markdown_table(["installed", "MB"], [[name, f"{total:.0f}"] for name, total in totals.items()]),
            markdown_table(["of spladerunner's", "MB"], [*packages, ["all others", f"{rest:.1f}"]]),
        ]
    )


def report_graphs(found: Mapping[str, Mapping[str, float]]) -> str:
    """Sizes of graphs, before and after the export."""
    rows = [[name, *(f"{found[shape][kind]:.1f}" for kind in ("float32", "int8"))] for shape, name in GRAPHS.items()]
    return markdown_table(["graph, MB", "float32, as converted", "int8, in the bundle"], rows)


def main() -> None:
    """Measures, saves the result and prints the tables."""
    arguments = argument_parser(__doc__).parse_args()
    folder = arguments.folder
    prepare(arguments.shared, folder, SHAPES)
    pythons = {OWN: own_python(folder), **{name: python_of(folder, short) for name, short in PEERS.items()}}
    installed = {}
    for name, python in pythons.items():
        (site_packages,) = (python.parents[1] / "lib").glob("python*/site-packages")
        installed[name] = measure(site_packages)
    found = {"installed": installed, "graphs": {shape: graphs(folder, shape) for shape in SHAPES}}
    save_result("size", found)
    print(f"{report(installed)}\n\n{report_graphs(found['graphs'])}")


if __name__ == "__main__":
    main()
