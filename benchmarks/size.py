"""What an installation weighs, by package, beside the peers'.

python -m benchmarks.size FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.materials import environment
from benchmarks.measure import keep, table

PEERS = {
    "spladerunner": ("spladerunner", str(Path(__file__).resolve().parents[1])),
    "FastEmbed": ("fastembed", "fastembed"),
    "SPLADERunner 0.1.6": ("splade", "SPLADERunner==0.1.6"),
    "sentence-transformers (torch, ONNX, OpenVINO)": ("st", ""),
}
NOT_ITS_OWN = ("pip", "setuptools", "wheel", "_distutils_hack", "pkg_resources")


def weigh(site_packages: Path) -> dict[str, float]:
    """Megabytes by top-level entry; metadata and compiled modules beside their package."""
    found: dict[str, float] = {}
    for entry in site_packages.iterdir():
        name = entry.name.split("-")[0].removesuffix(".libs").removesuffix(".py")
        if name in NOT_ITS_OWN or name.startswith("distutils-precedence"):
            continue
        files = [path for path in entry.rglob("*") if path.is_file()] if entry.is_dir() else [entry]
        found[name] = found.get(name, 0) + sum(path.stat().st_size for path in files) / 1e6
    return found


def main() -> None:
    """Weighs, keeps and prints."""
    folder = Path(sys.argv[2]).resolve()
    weights = {}
    for name, (short, requirement) in PEERS.items():
        python = environment(folder, short, requirement)
        (site_packages,) = (python.parents[1] / "lib").glob("python*/site-packages")
        weights[name] = weigh(site_packages)
    totals = {name: sum(found.values()) for name, found in weights.items()}
    rows = [[name, f"{total:.0f}", f"{total * 1e6 / 2**20:.0f}"] for name, total in totals.items()]
    print(table(["installed", "MB", "MiB"], rows), "\n")
    own = sorted(weights["spladerunner"].items(), key=lambda item: -item[1])
    rows = [[name, f"{mb:.1f}"] for name, mb in own if mb >= 0.5]
    rest = sum(mb for _, mb in own if mb < 0.5)
    print(table(["of spladerunner's", "MB"], [*rows, ["all others", f"{rest:.1f}"]]))
    keep("size", weights)


if __name__ == "__main__":
    main()
