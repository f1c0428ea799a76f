"""Size of an installation by package, beside those of its peers.

python -m benchmarks.size SHARED FOLDER
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.environments import own_python, python_of
from benchmarks.harness import argument_parser, markdown_table, save_result

OWN = "spladerunner"
PEERS = {
    "FastEmbed": "fastembed",
    "SPLADERunner 0.1.6": "spladerunner-0.1",
    "sentence-transformers (torch, ONNX, OpenVINO)": "sentence-transformers",
}
INSTALLERS = ("pip", "setuptools", "wheel", "_distutils_hack", "pkg_resources")
"""Packages of every environment, not counted."""

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


def report(found: Mapping[str, Mapping[str, float]]) -> str:
    """Totals of every system, and the packages of spladerunner's installation, the largest first."""
    totals = {name: sum(found[name].values()) for name in (OWN, *PEERS)}
    installed = [[name, f"{total:.0f}", f"{total * 1e6 / 2**20:.0f}"] for name, total in totals.items()]
    own = sorted(found[OWN].items(), key=lambda item: -item[1])
    packages = [[name, f"{mb:.1f}"] for name, mb in own if mb >= LEAST_MB]
    rest = sum(mb for _, mb in own if mb < LEAST_MB)
    return "\n\n".join(
        [
            markdown_table(["installed", "MB", "MiB"], installed),
            markdown_table(["of spladerunner's", "MB"], [*packages, ["all others", f"{rest:.1f}"]]),
        ]
    )


def main() -> None:
    """Measures, saves the result and prints the tables."""
    folder = argument_parser(__doc__).parse_args().folder
    pythons = {OWN: own_python(folder), **{name: python_of(folder, short) for name, short in PEERS.items()}}
    found = {}
    for name, python in pythons.items():
        (site_packages,) = (python.parents[1] / "lib").glob("python*/site-packages")
        found[name] = measure(site_packages)
    save_result("size", found)
    print(report(found))


if __name__ == "__main__":
    main()
