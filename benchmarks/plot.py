"""Draws benchmarks/results.svg from benchmarks/results.json.

python -m benchmarks.plot
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.harness import HERE, RESULTS
from benchmarks.origin import describe
from benchmarks.throughput import MIXED, OWN, record_name, speeds
from benchmarks.workload import SHAPES

OWN_COLOR, OTHER_COLOR = "#0b6e4f", "#9aa5b1"


def draw_throughput(axes: Any, shape: str, result: Sequence[Mapping[str, Any]]) -> None:
    """Draws documents a second of each system at its best setting, with axes of matplotlib."""
    rates = {system: median(kinds[MIXED]) for system, kinds in speeds(result).items() if MIXED in kinds}
    names = sorted(rates, key=lambda system: rates[system])
    colors = [OWN_COLOR if name == OWN else OTHER_COLOR for name in names]
    bars = axes.barh(names, [rates[name] for name in names], color=colors)
    axes.bar_label(bars, fmt="%.1f" if max(rates.values()) < 100 else "%.0f", padding=3)
    axes.set_title(f"{shape}: documents a second, mixed lengths", loc="left")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)


def draw_scaling(axes: Any, scaling: Mapping[str, Any]) -> None:
    """Draws milliseconds a text by length and by vocabulary, and seconds by the number of texts."""
    for name, found in scaling["length"].items():
        lengths = sorted(found, key=int)
        axes[0].plot([int(n) for n in lengths], [median(found[n]) * 1e3 for n in lengths], marker="o", label=name)
    axes[0].set(title="ms a text, by its tokens", xscale="log", yscale="log")
    ticks = sorted({int(n) for found in scaling["length"].values() for n in found})
    axes[0].set_xticks(ticks, [str(n) for n in ticks])
    axes[0].minorticks_off()
    axes[0].legend(frameon=False)
    for at, (part, title) in enumerate((("vocabulary", "ms a text, by vocabulary"), ("count", "seconds, by texts")), 1):
        found = scaling[part]
        points = sorted(found, key=int)
        factor = 1e3 if part == "vocabulary" else 1
        values = [median(found[n]) * factor for n in points]
        axes[at].plot([int(n) for n in points], values, marker="o", color=OWN_COLOR)
        axes[at].set(title=title, xlim=(0, None), ylim=(0, None))
    for each in axes:
        each.title.set_horizontalalignment("left")
        each.title.set_position((0, 1))
        each.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Draws the records that the file of results has, of those that tell their origin."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "spladerunner", "svg.fonttype": "none", "font.size": 9})
    records = json.loads(RESULTS.read_text(encoding="utf-8"))
    results = {name: record for name, record in records.items() if "command" in record}
    shapes = [shape for shape in SHAPES if record_name(shape) in results]
    figure = plt.figure(figsize=(10, 2.6 * len(shapes) + 3), layout="constrained")
    grid = figure.add_gridspec(len(shapes) + 1, 3)
    for row, shape in enumerate(shapes):
        draw_throughput(figure.add_subplot(grid[row, :]), shape, results[record_name(shape)]["result"])
    if "scaling" in results:
        axes = [figure.add_subplot(grid[len(shapes), column]) for column in range(3)]
        draw_scaling(axes, results["scaling"]["result"])
    machines = {describe(results[record_name(shape)]["machine"]) for shape in shapes}
    figure.suptitle("; ".join(sorted(machines)), fontsize=8, x=0.01, ha="left")
    figure.savefig(HERE / "results.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
