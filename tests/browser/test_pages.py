"""The report and the explanation in a headless Chromium. Run by `make browser`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from spladerunner import Expander, explanation_page
from spladerunner.evaluation import report
from spladerunner.evaluation.collection import Collection
from spladerunner.evaluation.results import evaluate
from spladerunner.evaluation.systems import UNPRUNED, Pruning
from tests.browser.chromium import Browser
from tests.small_collection import DOCUMENTS, HOSTILE, JUDGMENTS, QUERIES, write_beir

LEAST_CONTRAST = 4.5
"""Of text against its background: WCAG 2.2, level AA."""

LEAST_SIZE = 12.5
"""Of text, in CSS pixels."""

LONG = "Donaudampfschifffahrtsgesellschaftskapitän" * 8


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and chromedriver):
        message = "needs chromium and chromedriver: apt-get install chromium chromium-driver"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    opened = Browser(tmp_path_factory.mktemp("profile"), chromium, chromedriver)
    yield opened
    opened.driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, expander: Expander) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    documents = {**DOCUMENTS, "late": (LONG, "weather report " * 200 + "mayfly")}
    queries = {**QUERIES, "late": "mayfly", "expanded": "which weapon did scientists invent in wartime"}
    judgments = {**JUDGMENTS, "late": {"late": 1}, "expanded": {"d1": 1}}
    collection = Collection.read(
        write_beir(folder / f"small {HOSTILE.replace('/', '-')}", documents, queries, judgments)
    )
    prunings = [UNPRUNED, *(Pruning(top=n) for n in (2, 4, 8, 16)), Pruning(min_weight=0.5)]
    found = evaluate(collection, [expander, Expander()], prunings, names=["tiny-en", f"other {HOSTILE}"])
    drawn = {
        "report": report.page(found, {"tiny-en": expander, f"other {HOSTILE}": Expander()}),
        "explanation": explanation_page.page(
            expander.explain(f"the bomb {HOSTILE}", f"{HOSTILE} The atomic bomb {LONG} " + "atomic energy " * 300)
        ),
    }
    for name, page in drawn.items():
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in drawn}


@pytest.fixture(params=["report", "explanation"])
def page(request: pytest.FixtureRequest, pages: dict[str, Path]) -> Path:
    return pages[request.param]


FILLED = "[...document.querySelectorAll('details.query[open] .inside')].every((inside) => inside.childElementCount)"
"""A query's documents and tokens are drawn when it is opened."""


def open_everything(browser: Browser) -> None:
    browser.run("document.querySelectorAll('details').forEach((details) => (details.open = true))")
    browser.wait_for(FILLED)


@pytest.mark.parametrize("width", [360, 390, 768, 992, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_pages_are_readable_light_and_dark_at_any_width(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width=width, dark=dark)
    open_everything(browser)
    assert browser.run("return innerWidth") == width
    assert browser.run("return document.documentElement.scrollWidth") <= width
    texts = browser.texts()
    assert len(texts) > 50
    assert [text for text in texts if text["contrast"] < LEAST_CONTRAST] == []
    assert [text for text in texts if text["size"] < LEAST_SIZE] == []
    assert browser.clashes() == []
    (red, _, _) = browser.run(
        "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    )
    assert red < 64 if dark else red > 192
    assert browser.errors() == []


def test_only_the_page_is_requested_and_the_console_is_empty(browser: Browser, page: Path) -> None:
    browser.open(page)
    open_everything(browser)
    assert [address for address in browser.requests() if not address.startswith("data:")] == [page.as_uri()]
    assert browser.errors() == []


def test_hostile_text_is_shown_and_not_executed(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.run("return window.hacked") is None
    assert browser.run("return document.querySelectorAll('img, iframe, object').length") == 0
    assert "<script>window.hacked = true</script>" in browser.run("return document.querySelector('main').textContent")


def shown(browser: Browser) -> list[str]:
    return [
        element.text
        for element in browser.driver.find_elements(By.CSS_SELECTOR, "details.query .text")
        if element.is_displayed()
    ]


def test_the_search_narrows_the_queries_to_those_that_hold_every_word(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["report"])
    everything = shown(browser)
    counted = browser.driver.find_element(By.CSS_SELECTOR, ".filter output")
    search = browser.driver.find_element(By.CSS_SELECTOR, ".filter input[type=search]")
    assert len(everything) >= 2 and counted.text == f"{len(everything)} of {len(everything)}"

    search.send_keys("MAYFLY")
    assert shown(browser) == ["mayfly"] and counted.text == f"1 of {len(everything)}"
    search.send_keys(" nowhere")
    assert shown(browser) == [] and browser.driver.find_element(By.CSS_SELECTOR, ".none").is_displayed()
    search.send_keys(Keys.ENTER)  # the form goes nowhere
    assert browser.driver.current_url == pages["report"].as_uri()
    search.clear()
    search.send_keys(Keys.SPACE)
    assert shown(browser) == everything


def test_wins_and_losses_can_be_chosen_with_the_keyboard(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["report"])
    everything = shown(browser)
    browser.driver.find_element(By.CSS_SELECTOR, ".filter input[value=all]").send_keys(Keys.ARROW_RIGHT)
    wins = shown(browser)
    browser.driver.find_element(By.CSS_SELECTOR, ".filter input[value=better]").send_keys(Keys.ARROW_RIGHT)
    losses = shown(browser)
    assert wins and losses and wins + losses == everything and "mayfly" in losses
    browser.driver.find_element(By.CSS_SELECTOR, "details.query:not([hidden]) summary").send_keys(Keys.ENTER)
    browser.wait_for("document.querySelector('details.query').open")


def test_controls_and_charts_have_names_for_screen_readers(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["report"])
    unnamed = """
    const named = (element) => element.ariaLabel || element.labels?.length || element.textContent.trim();
    return [...document.querySelectorAll("input, [role=img], [role=region], [tabindex]")]
      .filter((element) => !named(element)).map((element) => element.outerHTML.slice(0, 80));
    """
    assert browser.run(unnamed) == []
    assert browser.run("return document.documentElement.lang") == "en"
    assert browser.run("return [...document.querySelectorAll('svg')].every((svg) => svg.closest('[role=img]'))")


@pytest.mark.parametrize(("width", "drawn"), [(360, "w300"), (991, "w300"), (992, "w880"), (1280, "w880")])
def test_charts_have_a_drawing_for_each_width_and_name_every_system(
    browser: Browser, pages: dict[str, Path], width: int, drawn: str
) -> None:
    browser.open(pages["report"], width=width)
    visible = """
    return [...document.querySelectorAll("section > .chart svg")].filter((svg) => svg.checkVisibility())
      .map((svg) => [svg.getAttribute("class"), [...svg.querySelectorAll("title")].map((title) => title.textContent)]);
    """
    (size,) = browser.run(visible)
    assert size[0] == drawn
    names = browser.run("return [...document.querySelectorAll('.systems thead th')].map((cell) => cell.innerText)")
    bm25, *models = [title.rpartition(": nDCG@10")[0] for title in [size[1][-1], *size[1][:-1]]]
    assert [bm25, *models] == [name.strip().replace("\n+", " +").replace("\n", ", ") for name in names]


def test_without_script_a_table_has_the_scores_of_every_query(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["report"])
    data = browser.run("return JSON.parse(document.querySelector('#data').textContent)")
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.driver.get(pages["report"].as_uri())
        rows = browser.driver.find_elements(By.CSS_SELECTOR, "noscript tbody tr")
        assert [row.find_element(By.TAG_NAME, "th").text for row in rows] == [row["text"] for row in data["queries"]]
        for row, query in zip(rows, data["queries"], strict=True):
            cells = [float(cell.text) for cell in row.find_elements(By.TAG_NAME, "td")]
            assert cells == pytest.approx(query["scores"], abs=0.0006)
        assert len(rows) >= 2 and rows[0].is_displayed()
        assert not browser.driver.find_element(By.CSS_SELECTOR, ".filter").is_displayed()
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def choose(browser: Browser, name: str, system: str) -> None:
    Select(browser.driver.find_element(By.NAME, name)).select_by_visible_text(system)


def signs_and_scores(browser: Browser) -> dict[str, tuple[float, list[float]]]:
    """The difference and the two scores that each listed query shows."""
    found = {}
    for query in browser.driver.find_elements(By.CSS_SELECTOR, "details.query"):
        difference = float(query.find_element(By.TAG_NAME, "b").text.replace("−", "-"))
        scores = query.find_element(By.CSS_SELECTOR, ".scores").text.split(" against ")
        found[query.find_element(By.CSS_SELECTOR, ".text").text] = (difference, [float(score) for score in scores])
    return found


@pytest.mark.parametrize("systems", [("BM25", "tiny-en"), ("tiny-en, top 2", "tiny-en"), ("tiny-en, top 2", "BM25")])
def test_any_two_systems_can_be_compared(browser: Browser, pages: dict[str, Path], systems: tuple[str, str]) -> None:
    browser.open(pages["report"])
    data = browser.run("return JSON.parse(document.querySelector('#data').textContent)")
    choose(browser, "first", systems[0])
    choose(browser, "second", systems[1])
    first, second = (data["systems"].index(system) for system in systems)
    expected = {
        query["text"]: (
            query["scores"][first] - query["scores"][second],
            [query["scores"][at] for at in (first, second)],
        )
        for query in data["queries"]
        if query["scores"][first] != query["scores"][second]
    }
    found = signs_and_scores(browser)
    assert found.keys() == expected.keys() and len(found) >= 2
    for text, (difference, scores) in found.items():
        assert difference == pytest.approx(expected[text][0], abs=0.0006)
        assert scores == pytest.approx(expected[text][1], abs=0.0006)
    differences = [difference for difference, _ in found.values()]
    assert differences == sorted(differences, reverse=True)
    summary = browser.driver.find_element(By.CSS_SELECTOR, ".compared").text
    assert all(system in summary for system in systems)
    counts = [sum(difference > 0 for difference in differences), sum(difference < 0 for difference in differences)]
    if first < second:  # the summary is of the later one minus the earlier one
        counts.reverse()
    assert f"Better on {counts[0]}, worse on {counts[1]}" in summary
    browser.driver.find_element(By.CSS_SELECTOR, "details.query summary").click()
    browser.wait_for("document.querySelectorAll('details[open] caption').length")
    captions = browser.driver.find_elements(By.CSS_SELECTOR, "details[open] caption")
    assert [caption.text.partition(":")[0] for caption in captions] == [*systems]
    assert browser.errors() == []


@pytest.mark.parametrize("width", [390, 1280])
def test_bm25_stays_in_view(browser: Browser, pages: dict[str, Path], width: int) -> None:
    browser.open(pages["report"], width=width)
    scrolled = """
    const scroll = document.querySelector(".scroll");
    scroll.scrollLeft = 1e6;
    const [label, bm25, ...others] = scroll.querySelectorAll("tbody tr:first-child > *");
    const box = (cell) => cell.getBoundingClientRect();
    const top = document.elementFromPoint(box(bm25).right - 4, box(bm25).top + box(bm25).height / 2);
    return [scroll.scrollLeft, box(scroll).left, box(label).left, box(label).right, box(bm25).left, box(bm25).right,
      top === bm25, box(others.at(-1)).right, innerWidth];
    """
    browser.run("document.querySelector('.scroll').scrollIntoView()")
    moved, left, label, label_end, bm25, bm25_end, on_top, last, right = browser.run(scrolled)
    assert moved > 50 and left - 1 <= label < label_end <= bm25 + 1 and bm25_end < right and on_top
    assert bm25_end < last - 40 and last <= right
    assert browser.run("return document.querySelector('.systems thead th').innerText.trim()") == "BM25"


def test_each_model_keeps_its_color(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["report"])
    colors = browser.run("""
    const background = (element) => getComputedStyle(element, "::before").backgroundColor;
    const legend = [...document.querySelectorAll(".legend li:not(.bm25)")].map(background);
    const heads = [...document.querySelectorAll(".systems thead th:not(.bm25)")].map(background);
    const titles = [...document.querySelectorAll("h3.model")].map(background);
    const bars = [...document.querySelectorAll(".histograms")].map((group) =>
      [...new Set([...group.querySelectorAll("path")].map((path) => getComputedStyle(path).fill))]);
    const points = [...document.querySelectorAll(".w880 [id^=point] use, .w880 g:has(> title) use")]
      .map((point) => getComputedStyle(point).fill);
    return [legend, heads, titles, bars, points];
    """)
    legend, heads, titles, bars, points = colors
    assert len({*legend}) == 2 and titles == legend and {*heads} == {*legend}
    assert all(color in found for color, found in zip(legend, bars, strict=True))
    assert {*legend} < {*points}


BROKEN = """
const found = [];
const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode;
  if (!node.parentElement.checkVisibility() || node.parentElement.closest("noscript, option")) continue;
  for (const match of node.data.matchAll(/[+−-]?\\d[\\d.,]*\\d( (MB|kB))?/g)) {
    const range = document.createRange();
    range.setStart(node, match.index);
    range.setEnd(node, match.index + match[0].length);
    if (new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size > 1) found.push(match[0]);
  }
}
return found;
"""


@pytest.mark.parametrize("width", [360, 390])
def test_no_figure_breaks_in_two_on_a_phone(browser: Browser, pages: dict[str, Path], width: int) -> None:
    browser.open(pages["report"], width=width)
    assert browser.run(BROKEN) == []
    browser.run(
        "document.querySelector('.tiles dd').innerHTML = '<p style=\"width: 2ch; white-space: normal\">12,345 MB</p>'"
    )
    assert browser.run(BROKEN) == ["12,345 MB"]


def test_twenty_queries_are_shown_and_more_on_request(browser: Browser, many: Path) -> None:
    browser.open(many, width=390)
    assert browser.run("return document.documentElement.scrollHeight") < 12_000
    more = browser.driver.find_element(By.CSS_SELECTOR, ".more")
    assert len(shown(browser)) == 20 and more.text == "Show 20 more"
    more.click()
    assert len(shown(browser)) == 40 and more.text == "Show 5 more"
    more.send_keys(Keys.ENTER)
    everything = shown(browser)
    assert len({*everything}) == 45 and not more.is_displayed()
    search = browser.driver.find_element(By.CSS_SELECTOR, ".filter input[type=search]")
    search.send_keys("number44")  # not among the first twenty
    assert shown(browser) == ["mayfly number44"]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, expander: Expander) -> Path:
    """A report with 45 queries on which BM25 and the model differ, among others."""
    folder = tmp_path_factory.mktemp("many")
    late = {f"late{n}": ("", "weather report " * 200 + f"mayfly number{n}") for n in range(45)}
    queries = {f"late{n}": f"mayfly number{n}" for n in range(45)} | {"same": "honey"}
    judgments = {f"late{n}": {f"late{n}": 1} for n in range(45)} | {"same": {"d5": 1}}
    collection = Collection.read(write_beir(folder / "many", DOCUMENTS | late, queries, judgments))
    path = folder / "many.html"
    path.write_text(report.page(evaluate(collection, [expander]), {"tiny-en": expander}), encoding="utf-8")
    return path
