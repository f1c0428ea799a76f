"""The report and the explanation in a headless Chromium. Run by `make browser`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

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
        "report": report.page(found, expander),
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


def open_everything(browser: Browser) -> None:
    browser.run("document.querySelectorAll('details').forEach((details) => (details.open = true))")


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
    assert browser.run("return document.querySelector('details.query:not([hidden])').open")


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
    size, differences = browser.run(visible)
    assert size[0] == differences[0] == drawn
    names = browser.run("return [...document.querySelectorAll('.systems thead th')].map((cell) => cell.innerText)")
    assert [title.rpartition(": nDCG@10")[0] for title in size[1]] == [
        name.strip().replace("\n", ", ") for name in names
    ]


def test_without_script_the_queries_are_all_there(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["report"])
    expected = len(shown(browser))
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.driver.get(pages["report"].as_uri())
        assert len(shown(browser)) == expected
        assert not browser.driver.find_element(By.CSS_SELECTOR, ".filter").is_displayed()
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
