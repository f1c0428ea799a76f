"""The README and the pages of docs/: their code runs, prints what they show, and their links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from spladerunner import Expander, list_models
from tests.conftest import ROOT
from tests.page_runner import NOT_RUN, blocks, commands

DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in DOCS.rglob("*.md") if page.parent.name not in ("engines", "scale")),
]
NUMBER = re.compile(r"\d+\.\d+")
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^]]+\]: (\S+)$", re.MULTILINE)

BLOCKS_NOT_RUN = {
    "README.md": ["makes environments"],
    "docs/coming-from.md": [
        "needs the Hub",
        "needs FastEmbed and the Hub",
        "needs torch and the Hub",
        "needs the Hub",
        "needs a server",
    ],
    "docs/guide/export.md": ["needs the Hub"] * 4,
    "docs/guide/gpu.md": ["needs a GPU", "needs the Hub and a GPU", "needs a GPU"],
    "docs/guide/serve.md": ["builds an image"],
    "docs/index.md": ["installs packages", "installs packages"],
    "docs/models.md": ["needs the Hub", "needs a graph", "needs a graph"],
}
"""The reasons of the blocks that no test runs. A block is left out only if it says so in its title, and here."""


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def same(printed: str, shown: str) -> bool:
    """Equal but for numbers with a point, which may differ by 0.03: processors round differently."""
    numbers = zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=False)
    return NUMBER.sub("#", printed) == NUMBER.sub("#", shown) and all(
        float(number) == pytest.approx(float(expected), abs=0.03) for number, expected in numbers
    )


def drawn(output: str) -> list[list[str]]:
    """The lines of a terminal without their bars, whose length follows the weights."""
    return [
        [NUMBER.sub("#", word) for word in re.sub("[█░]", "", line).split()] for line in output.strip().splitlines()
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.runs for b in blocks(page.read_text("utf-8")))], ids=name
)
def test_a_page_runs_and_prints_what_it_shows(page: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "page_runner.py", page],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    shown = list(blocks(page.read_text(encoding="utf-8")))
    for at, (block, printed) in enumerate(zip(shown, json.loads(done.stdout), strict=True)):
        following = shown[at + 1] if at + 1 < len(shown) else None
        if block.language == "console":
            expected = "".join(output for _, output in commands(block.content))
            assert drawn(printed) == drawn(expected)
            assert same(" ".join(NUMBER.findall(printed)), " ".join(NUMBER.findall(expected)))
        elif block.runs and following and (following.language, following.title) == ("text", ""):
            assert same(printed, following.content), printed


def test_every_block_runs_or_says_why_it_does_not() -> None:
    not_run = {}
    for page in PAGES:
        found = list(blocks(page.read_text(encoding="utf-8")))
        assert len(re.findall("^```", page.read_text(encoding="utf-8"), re.MULTILINE)) == 2 * len(found), page
        assert {block.language for block in found} <= {"python", "sh", "console", "text", "json", "dockerfile"}
        if reasons := [block.title.removeprefix(NOT_RUN) for block in found if block.title.startswith(NOT_RUN)]:
            not_run[name(page)] = reasons
    assert not_run == BLOCKS_NOT_RUN


def test_links_of_the_readme_work_on_a_package_index_and_lead_to_files_of_the_repository() -> None:
    """An index shows the README by itself: every link is absolute, and its file is in the repository."""
    urls = project_urls()
    links = [first or second for first, second in LINK.findall(README)]
    assert len(links) > 10
    for link in links:
        path, _, anchor = link.partition("#")
        if path.startswith(urls["Documentation"]):
            page = path.removeprefix(urls["Documentation"]).strip("/")
            candidates = [DOCS / f"{page or 'index'}.md", DOCS / page / "README.md", DOCS / page]
        else:
            candidates = [
                ROOT / path.removeprefix(prefix)
                for prefix in (f"{urls['Source']}/blob/main/", raw_files(urls))
                if path.startswith(prefix)
            ]
        found = [candidate for candidate in candidates if candidate.is_file()]
        assert found, link
        if anchor:
            headings = re.findall("^#+ (.*)$", found[0].read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"\W+", "-", heading.lower()) for heading in headings], link


def test_links_of_pages_out_of_docs_lead_to_files_of_the_repository() -> None:
    """mkdocs checks the others."""
    outward = [
        (page, link)
        for page in DOCS.rglob("*.md")
        for link, _ in LINK.findall(page.read_text("utf-8"))
        if link.startswith("../")
    ]
    assert outward
    for page, link in outward:
        assert (page.parent / link.partition("#")[0]).exists(), f"{page}: {link}"


def test_pyproject_and_the_site_name_the_same_addresses() -> None:
    urls = project_urls()
    site = dict(re.findall(r"^(site_url|repo_url): (\S+)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M))
    assert site == {"site_url": urls["Documentation"], "repo_url": urls["Source"]}
    assert all(urls[key].startswith(urls["Source"]) for key in ("Changelog", "Issues"))
    known = (urls["Source"], urls["Documentation"], raw_files(urls))
    for page in [*PAGES, *ROOT.glob("*.md"), *(ROOT / "examples").glob("*.ipynb")]:
        found = re.findall(r"https://[^\s)\]\"]*github[^\s)\]\"]*", page.read_text(encoding="utf-8"))
        assert all(url.startswith(known) for url in found if "spladerunner" in url), page


def raw_files(urls: dict[str, str]) -> str:
    return urls["Source"].replace("github.com", "raw.githubusercontent.com") + "/main/"


def project_urls() -> dict[str, str]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")  # tomllib is not in Python 3.10
    return dict(re.findall(r'^(\w+) = "(https://.*)"$', text, re.MULTILINE))


def test_the_readme_is_one_screen() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.torch
@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "design.md"], ids=name)
def test_the_picture_of_a_checkpoint_names_the_passes_in_order(page: Path) -> None:
    from spladerunner.export.passes import passes

    names = ["convert", *(each.name for each in passes("cpu", positions=512)), "verify"]
    (drawn,) = re.findall("^checkpoint ─▶ (.*) ─▶ bundle$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert drawn.split(" ─▶ ") == names


@pytest.mark.torch
def test_the_design_describes_each_pass() -> None:
    from spladerunner.export.passes import passes

    names = [each.name for target in ("cpu", "cuda") for each in passes(target, positions=512)]
    described = re.findall(r"^\| ([a-z0-9 ]+) \|", (DOCS / "design.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(described) >= {"convert", *names, "verify"}


def test_the_picture_is_what_the_embedded_pair_gives() -> None:
    picture = runpy.run_path(str(DOCS / "picture.py"))["picture"](Expander())
    drawn = (DOCS / "expansion.svg").read_text(encoding="utf-8")
    assert re.sub(r"[\d.]+", "", drawn) == re.sub(r"[\d.]+", "", picture)
    for figure, expected in zip(re.findall(r">(\d\.\d\d)<", drawn), re.findall(r">(\d\.\d\d)<", picture), strict=True):
        assert float(figure) == pytest.approx(float(expected), abs=0.03)


def test_the_figures_of_the_embedded_pair_are_those_of_its_card() -> None:
    card = (ROOT / "models" / "README.md").read_text(encoding="utf-8")
    page = (DOCS / "models.md").read_text(encoding="utf-8")
    for row in ("int8", "BM25"):
        figures = [re.findall(rf"^\|.*{row}.* (\d\.\d{{3}}) \| (\d\.\d{{3}}) \|$", text, re.M) for text in (page, card)]
        assert figures[0] == figures[1] and len(figures[0]) == 1
        if row == "int8":
            assert list_models()[0].score == f"nDCG@10 {figures[0][0][0]} (SciFact)"
            assert f"tiny-en Apache-2.0 {list_models()[0].score}\n" in page


def test_the_size_stated_is_the_size_shipped() -> None:
    size = sum(path.stat().st_size for path in (ROOT / "models" / "tiny-en").iterdir())
    for text in (README, (DOCS / "models.md").read_text(encoding="utf-8")):
        assert f"{size / 1e6:.1f} MB in all" in " ".join(text.split())


def test_make_runs_the_commands_that_the_readme_names() -> None:
    assert "make run\nmake test\n" in README
    dry = subprocess.check_output(
        ["make", "--dry-run", "run", "test"], cwd=ROOT, text=True, env={**os.environ, "MAKEFLAGS": ""}
    )
    assert "spladerunner expand" in dry and "pytest" in dry


def test_notebooks_are_stored_without_output() -> None:
    notebooks = sorted((ROOT / "examples").glob("*.ipynb"))
    assert len(notebooks) == 2
    for notebook in notebooks:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        kinds = Counter(cell["cell_type"] for cell in cells)
        assert kinds["code"] and kinds["markdown"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code), notebook
