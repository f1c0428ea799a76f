"""The report's charts: SVG for shapes that stretch, HTML for labels that stay readable at any width."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BARS = 40
"""About how many bars a histogram has."""

MOST_DIFFERENCES = 500
"""How many queries have a bar: of more, every second is drawn, or every third ..."""

_PHONE = 240, 260
"""A plot's width and height in pixels where it is smallest: what does not collide there does not anywhere."""


class Point(NamedTuple):
    """A system in the scatter plot; colour counts the models, and None is BM25.

    way: how it was pruned, "" for not at all. A line joins what was pruned one way, and ends in what was not.
    """

    name: str
    label: str
    x: float
    y: float
    colour: int | None
    way: str


class _Box(NamedTuple):
    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: _Box) -> bool:
        return not (
            self.right <= other.left or other.right <= self.left or self.top <= other.bottom or other.top <= self.bottom
        )


def scatter(points: Sequence[Point], x_text: Callable[[float], str], y_name: str) -> str:
    """Points over a logarithmic x-axis. x must be positive."""
    low, high = min(point.x for point in points) / 1.5, max(point.x for point in points) * 1.6
    y_ticks = _round_steps(min(point.y for point in points), max(point.y for point in points))

    digits = max(2, -math.floor(math.log10(y_ticks[1] - y_ticks[0])))

    def place(point: Point) -> tuple[float, float]:
        return (
            100 * math.log(point.x / low) / math.log(high / low),
            100 * (point.y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]),
        )

    lines, dots = [], []
    for colour, way in dict.fromkeys((point.colour, point.way) for point in points if point.way):
        row = sorted(place(point) for point in points if point.colour == colour and point.way in (way, ""))
        lines += [
            f'<line class="series {way} c{colour}" x1="{a[0]:.2f}" y1="{100 - a[1]:.2f}" x2="{b[0]:.2f}" '
            f'y2="{100 - b[1]:.2f}"/>'
            for a, b in pairwise(row)
        ]
    level = next((place(point)[1] for point in points if point.colour is None), None)
    if level is not None:
        lines.append(f'<line class="level" x1="0" x2="100" y1="{100 - level:.2f}" y2="{100 - level:.2f}"/>')
    sides = _label_sides([(*place(point), point.label) for point in points])
    for point, side in zip(points, sides, strict=True):
        x, y = place(point)
        says = f"{point.name}: {y_name} {point.y:.3f}, {x_text(point.x)}"
        kind = "bm25" if point.colour is None else f"c{point.colour}"
        at = f'style="left:{x:.2f}%;bottom:{y:.2f}%"'
        dots.append(
            f'<span class="dot {kind}" {at} tabindex="0" role="img" aria-label="{escape(says)}"></span>'
            f'<span class="says" aria-hidden="true">{escape(says)}</span>'
            f'<span class="name {side}" {at} aria-hidden="true">{escape(point.label)}</span>'
        )
    grid = "".join(
        f'<line class="grid" x1="0" x2="100" y1="{y:.2f}" y2="{y:.2f}"/>'
        for y in (100 - 100 * at / (len(y_ticks) - 1) for at in range(len(y_ticks)))
    )
    y_labels = "".join(
        f'<span style="bottom:{100 * at / (len(y_ticks) - 1):.2f}%">{tick:.{digits}f}</span>'
        for at, tick in enumerate(y_ticks)
    )
    x_labels = "".join(
        f'<span style="left:{100 * math.log(tick / low) / math.log(high / low):.2f}%">{escape(x_text(tick))}</span>'
        for tick in _log_steps(low, high)
    )
    return (
        f'<div class="plot"><div class="y">{y_labels}</div><div class="area">{_svg(grid + "".join(lines))}'
        f'{"".join(dots)}</div><div class="x">{x_labels}</div></div>'
    )


def histogram(counts: NDArray[np.int64], width: float, name: str, unit: str) -> str:
    """How many values lie in [0, width), [width, 2 width) ..., from 0 to the largest that occurs."""
    total = int(counts.sum())
    if not total:
        return ""
    counts = counts[: int(np.flatnonzero(counts)[-1]) + 1]
    merged = next(step for step in _steps() if len(counts) <= BARS * step)
    bars = np.add.reduceat(counts, np.arange(0, len(counts), merged))
    tallest = int(bars.max())
    share = 100 / len(bars)
    shapes = "".join(
        f'<rect x="{at * share + share * 0.08:.2f}" y="{100 - 100 * bar / tallest:.2f}" width="{share * 0.84:.2f}" '
        f'height="{100 * bar / tallest:.2f}"><title>{_number(at * merged * width)} to '
        f"{_number(((at + 1) * merged - (1 if width == 1 else 0)) * width)}: {bar:,}</title></rect>"
        for at, bar in enumerate(bars.tolist())
        if bar
    )
    centres = (np.arange(len(counts)) + (0 if width == 1 else 0.5)) * width
    mean = float(np.dot(centres, counts)) / total
    median = float(centres[int(np.searchsorted(np.cumsum(counts), total / 2))])
    summary = f"mean {_number(mean)}, median {_number(median)} {unit}"
    ends = len(bars) * merged * width
    labels = "".join(
        f'<span style="left:{100 * tick / ends:.2f}%">{_number(tick)}</span>'
        for tick in _round_steps(0, ends)
        if tick <= ends
    )
    return (
        f'<figure class="histogram"><figcaption><strong>{escape(name)}</strong> {summary}</figcaption>'
        f'<div class="bars" role="img" aria-label="{escape(name)}: {summary}">{_svg(shapes)}</div>'
        f'<div class="x" aria-hidden="true">{labels}</div></figure>'
    )


def differences(values: Iterable[float]) -> str:
    """A bar for each query, sorted: up where the model is better, down where it is worse."""
    row = sorted(values, reverse=True)
    row = row[:: math.ceil(len(row) / MOST_DIFFERENCES)]
    share, largest = 100 / len(row), max(map(abs, row)) or 1.0
    shapes = "".join(
        f'<rect class="{"better" if value > 0 else "worse"}" x="{at * share:.3f}" width="{share * 0.9:.3f}" '
        f'y="{50 - 50 * max(value, 0) / largest:.2f}" height="{50 * abs(value) / largest:.2f}"/>'
        for at, value in enumerate(row)
        if value
    )
    return _svg(f'<line class="grid" x1="0" x2="100" y1="50" y2="50"/>{shapes}')


def _svg(shapes: str) -> str:
    return f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">{shapes}</svg>'


def _label_sides(dots: Sequence[tuple[float, float, str]]) -> list[str]:
    """On which side of its dot each label stands, so that none hides another, as far as four sides allow."""
    width, height = _PHONE
    at = [(x / 100 * width, y / 100 * height, 7.5 * len(label)) for x, y, label in dots]
    taken = [_Box(x - 6, y - 6, x + 6, y + 6) for x, y, _ in at]
    sides = []
    for x, y, long in at:
        boxes = {
            "above": _Box(x - long / 2, y + 7, x + long / 2, y + 23),
            "below": _Box(x - long / 2, y - 23, x + long / 2, y - 7),
            "right": _Box(x + 9, y - 8, x + 9 + long, y + 8),
            "left": _Box(x - 9 - long, y - 8, x - 9, y + 8),
        }
        inside = _Box(0, -8, width, height + 20)
        fitting = [
            side
            for side, box in boxes.items()
            if box.left >= inside.left
            and box.right <= inside.right
            and box.bottom >= inside.bottom
            and not any(box.overlaps(other) for other in taken)
        ]
        sides.append(fitting[0] if fitting else "above")
        taken.append(boxes[sides[-1]])
    return sides


def _round_steps(low: float, high: float) -> list[float]:
    """From four to eight round numbers in equal steps around both."""
    span = max(high - low, 1e-3)
    size = 10 ** math.floor(math.log10(span / 4))
    step = next(size * factor for factor in (1, 2, 5, 10) if span / (size * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * at, 10) for at in range(first, max(last, first + 1) + 1)]


def _log_steps(low: float, high: float) -> list[float]:
    """Round numbers between both, at most four, where they are few enough decades."""
    for factors in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1, 3), (1,)):
        steps = [
            factor * 10**power
            for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            for factor in factors
            if low * 1.05 <= factor * 10**power <= high / 1.05
        ]
        if len(steps) <= 4:
            break
    return steps


def _steps() -> Iterable[int]:
    size = 1
    while True:
        yield from (size, 2 * size, 5 * size)
        size *= 10


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"
