"""The shapes of the charts, read from the SVG; their looks are tested in tests/browser."""

from __future__ import annotations

import re
import subprocess
import sys
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from spladerunner.evaluation import charts
from spladerunner.evaluation.charts import Point

POINTS = [
    Point("16", "a top 16: 0.2", 1e5, 0.2, "model0", "top"),
    Point("32", "a top 32: 0.3", 2e5, 0.3, "model0", "top"),
    Point("≥ 1", "a min 1: 0.31", 2e5, 0.31, "model0", "min"),
    Point("all", "a: 0.33", 8e5, 0.33, "model0"),
    Point("all", "<b> & c: 0.33", 8e5, 0.33, "model1"),
]
BASELINE = Point("BM25", "BM25: 0.25", 4e5, 0.25, "bm25")


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter("text")]


def places(svg: str) -> dict[str, tuple[float, float]]:
    """Positions of the points, {title: (x, y)}, y downwards."""
    found = {}
    for group in ET.fromstring(svg).iter("g"):
        title, use = group.find("title"), group.find(".//use")
        if title is not None and use is not None:
            found[str(title.text)] = (float(use.attrib["x"]), float(use.attrib["y"]))
    return found


def outline(svg: str, color: str) -> list[tuple[float, float]]:
    """The corners of the area that has the color, downwards and to the right."""
    (path,) = (
        element.attrib["d"]
        for element in ET.fromstring(svg).iter("path")
        if f"fill: var(--{color})" in element.attrib.get("style", "")
    )
    return [(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", path)]


@pytest.fixture(scope="module")
def drawn() -> list[str]:
    return charts.quality_against_size(POINTS, BASELINE, "nDCG@10")


def test_points_are_placed_by_logarithm_of_size_and_by_quality(drawn: list[str]) -> None:
    for svg in drawn:
        at = places(svg)
        assert len(at) == 6  # the title of the fifth is escaped, and read back here
        x = {title: place[0] for title, place in at.items()}
        doubled = x["a top 32: 0.3"] - x["a top 16: 0.2"]
        assert x["a: 0.33"] - x["a top 32: 0.3"] == pytest.approx(2 * doubled, abs=0.05)
        y = {title: place[1] for title, place in at.items()}
        tenth = y["a top 16: 0.2"] - y["a top 32: 0.3"]
        assert tenth > 0 and y["BM25: 0.25"] - y["a top 32: 0.3"] == pytest.approx(tenth / 2, abs=0.05)
        assert x["a top 32: 0.3"] == x["a min 1: 0.31"] and "<b> & c: 0.33" in at


def test_a_dashed_line_is_drawn_at_the_quality_of_the_baseline(drawn: list[str]) -> None:
    for svg in drawn:
        (dashed,) = (
            path.attrib["d"]
            for path in ET.fromstring(svg).iter("path")
            if "stroke-dasharray: 5,4" in path.attrib.get("style", "")
        )
        (height,) = {float(y) for _, y in re.findall(r"[ML] (\S+) (\S+)", dashed)}
        assert height == pytest.approx(places(svg)["BM25: 0.25"][1], abs=0.05)


def test_the_baseline_alone_has_another_marker(drawn: list[str]) -> None:
    for svg in drawn:
        root = ET.fromstring(svg)
        shapes = {path.attrib["id"]: path.attrib["d"] for path in root.iter("path") if "id" in path.attrib}
        markers: dict[str, set[str]] = {}
        for group in root.iter("g"):
            title, use = group.find("title"), group.find(".//use")
            if title is not None and use is not None:
                (target,) = (value for name, value in use.attrib.items() if name.endswith("href"))
                markers.setdefault(shapes[target.removeprefix("#")], set()).add(str(title.text))
        assert sorted(map(len, markers.values())) == [1, 5]
        assert {"BM25: 0.25"} in markers.values()


def test_each_label_is_drawn_at_most_once_beside_its_point(drawn: list[str]) -> None:
    wide, narrow = map(texts, drawn)
    assert {"16", "32", "≥ 1", "BM25"} <= {*wide} and wide.count("all") == 2
    assert {"16", "32", "BM25"} <= {*narrow}


@pytest.mark.slow
def test_labels_without_room_are_left_out() -> None:
    crowd = [Point(f"n{n}", "", 1e5, 0.2, "model0") for n in range(50)]
    labels = [text for text in texts(charts.quality_against_size(crowd, BASELINE, "m")[1]) if text.startswith("n")]
    assert 1 <= len(labels) <= 4


def test_colors_are_variables_of_the_page_and_the_font_is_the_pages(drawn: list[str]) -> None:
    for svg in (*drawn, charts.histogram("a", np.arange(9), 1, "model1")):
        assert "#" not in re.sub(r'url\(#\w+\)|href="#\w+"', "", svg)
        assert "font-family" not in svg and "<style" not in svg and "http" not in svg
        assert {*re.findall(r"var\(--(\w+)\)", svg)} <= {*charts.COLORS}


@pytest.mark.slow
def test_ids_differ_between_charts_and_stay_from_run_to_run(drawn: list[str]) -> None:
    again = charts.quality_against_size(POINTS, BASELINE, "nDCG@10")
    assert again == drawn
    every = [*drawn, *(charts.histogram(name, np.arange(9), 1, "model0") for name in "ab")]
    ids = [identifier for svg in every for identifier in re.findall(r' id="([^"]+)"', svg)]
    assert ids and len({*ids}) == len(ids)


def test_a_histogram_counts_every_value_in_few_bars() -> None:
    counts = np.zeros(1000, dtype=np.int64)
    counts[[0, 10, 60, 999]] = 1, 5, 3, 2
    corners = outline(charts.histogram("a", counts, 1, "model2"), "model2")
    floor = corners[0][1]
    heights = [floor - y for _, y in corners]
    steps = heights[1:-1:2]
    assert len(steps) <= charts.BARS
    assert [height / max(steps) for height in steps if height] == pytest.approx([1, 0.5, 1 / 3], abs=0.01)
    assert heights[1] == max(heights)


def test_charts_are_drawn_in_the_sizes_of_the_page(drawn: list[str]) -> None:
    """Width and height in CSS pixels, as the classes w880, w300 and w230 of the page show them."""
    histogram = charts.histogram("a", np.array([1, 2]), 1, "model2")
    sizes = [re.findall(r'<svg class="(w\d+)" viewBox="0 0 (\S+) (\S+)"', svg) for svg in (*drawn, histogram)]
    assert sizes == [[("w880", "880", "380")], [("w300", "300", "300")], [("w230", "230", "150")]]


@pytest.mark.parametrize(("bin_width", "whole"), [(1, True), (0.1, False)])
def test_numbers_of_tokens_are_labeled_with_whole_numbers(bin_width: float, whole: bool) -> None:
    svg = charts.histogram("a", np.array([0, 3]), bin_width, "model2")
    labels = [label for label in texts(svg) if label != "0"]
    assert all(label.isdigit() for label in labels) == whole and labels


@pytest.mark.slow
def test_only_the_report_loads_matplotlib() -> None:
    code = (
        "import sys, spladerunner.evaluation.results; print('matplotlib' in sys.modules);"
        "import spladerunner.evaluation.report; print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\nTrue False\n"
