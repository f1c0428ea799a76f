"""Charts of the report by matplotlib, as SVG elements that take the page's font and the colors of its theme."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

WIDE, NARROW = 880, 300
"""Widths in CSS pixels at which a chart is drawn: for a desktop, and for a phone of 360."""

BARS = 40
"""The most bars of a histogram."""

COLORS = {
    name: f"#0000{number:02x}"
    for number, name in enumerate(["ink", "muted", "line", "bm25", *(f"model{n}" for n in range(6))], start=1)
}
"""{CSS variable: the color that stands for it while matplotlib draws}"""

LABEL_OFFSETS = (
    (0, 8, "center", "bottom"),
    (0, -8, "center", "top"),
    (9, 0, "left", "center"),
    (-9, 0, "right", "center"),
)
"""Places of a label beside its point, best first: x, y, horizontal and vertical alignment."""

RC = {
    "axes.edgecolor": COLORS["line"],
    "axes.labelcolor": COLORS["muted"],
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "figure.dpi": 72,  # a point is a CSS pixel
    "font.size": 13,
    "grid.color": COLORS["line"],
    "svg.fonttype": "none",
    "xtick.bottom": False,
    "xtick.labelcolor": COLORS["muted"],
    "xtick.major.pad": 7,
    "ytick.labelcolor": COLORS["muted"],
    "ytick.left": False,
}


class Point(NamedTuple):
    """A system in the chart of quality against size.

    label: beside the point. title: on hover. color: a key of COLORS. line: points of one line, joined in order of size;
    "" for a point that ends every line of its color, None for one on no line.
    """

    label: str
    title: str
    size: float
    quality: float
    color: str
    line: str | None = ""


def quality_against_size(points: Sequence[Point], baseline: Point, measure: str) -> list[str]:
    """Draws quality over index size on a logarithmic scale, in both widths. The baseline gets a dashed level."""
    shown = [*points, baseline]
    low, high = min(point.size for point in shown), max(point.size for point in shown)
    lines = dict.fromkeys((point.color, point.line) for point in points if point.line)

    def draw(axes: Axes) -> None:
        axes.set(xscale="log", xlim=(low / 1.5, high * 1.5), xlabel="index size", ylabel=measure)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 25 else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(EngFormatter("B", sep="\N{NO-BREAK SPACE}"))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.margins(y=0.15)
        axes.axhline(baseline.quality, color=COLORS[baseline.color], linestyle=(0, (5, 4)), linewidth=1)
        for color, line in lines:
            joined = sorted(
                (point.size, point.quality) for point in points if point.color == color and point.line in (line, "")
            )
            axes.plot(*zip(*joined, strict=True), color=COLORS[color], linestyle=":" if line == "min" else "-")
        for number, point in enumerate(shown):
            marker = "D" if point is baseline else "o"
            axes.plot(point.size, point.quality, marker, color=COLORS[point.color], gid=f"point{number}", zorder=3)
        _label(axes, shown)

    def titled(found: re.Match[str]) -> str:
        return f"<g><title>{escape(shown[int(found[1])].title)}</title>"

    charts = [_svg(f"size {width}", width, height, draw) for width, height in ((WIDE, 380), (NARROW, 300))]
    return [re.sub(r'<g id="point(\d+)">', titled, chart) for chart in charts]


def histogram(name: str, counts: NDArray[np.int64], bin_width: float, color: str) -> str:
    """Draws how many values lie in [0, bin_width), [bin_width, 2 bin_width) ..., merged into at most BARS bars.

    color: a key of COLORS.
    """
    counts = np.trim_zeros(counts, "b")
    edges = np.asarray(MaxNLocator(BARS, integer=True, steps=[1, 2, 5, 10]).tick_values(0, len(counts)))
    heights, _ = np.histogram(np.arange(len(counts)), edges, weights=counts)

    def draw(axes: Axes) -> None:
        axes.stairs(heights, edges * bin_width, fill=True, color=COLORS[color])
        axes.set_xlim(0, edges[-1] * bin_width)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=bin_width == 1))
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.yaxis.set_major_formatter("{x:,.0f}")

    return _svg(name, 230, 150, draw)


def _svg(name: str, width: int, height: int, draw: Callable[[Axes], None]) -> str:
    """Draws one chart. The name keeps its ids apart from those of other charts."""
    file = io.StringIO()
    with style.context({**RC, "svg.hashsalt": name}, after_reset=True):
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        draw(figure.subplots())
        nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    return _inline(file.getvalue(), width)


def _inline(svg: str, width: int) -> str:
    """Turns matplotlib's document into an element of a page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'<svg [^>]*(viewBox="[^"]*")[^>]*>', rf'<svg class="w{width}" \1 aria-hidden="true">', svg, count=1)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # would hold for the whole page
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)  # numbered, and so the same in every chart
    svg = re.sub(r" font-family: [^;]*;", "", svg)
    svg = re.sub(r"(\.\d\d)\d+", r"\1", svg)  # a hundredth of a pixel is enough
    svg = svg.replace("xlink:href", "href")
    for name, color in COLORS.items():
        svg = svg.replace(color, f"var(--{name})")
    return svg


def _label(axes: Axes, points: Sequence[Point]) -> None:
    """Labels each point where nothing else is; a label without room is left out, as the table names every system.

    adjustText, tried instead, moves labels away from their points where these are many, as on a phone.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # lays out the axes
    taken = [line.get_window_extent() for line in axes.lines if line.get_gid()]
    for point in points:
        for x, y, horizontal, vertical in LABEL_OFFSETS:
            label = axes.annotate(
                point.label,
                (point.size, point.quality),
                (x, y),
                textcoords="offset points",
                horizontalalignment=horizontal,
                verticalalignment=vertical,
                color=COLORS["ink"],
            )
            box = label.get_window_extent()
            if not box.count_overlaps(taken) and axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max):
                taken.append(box)
                break
            label.remove()
