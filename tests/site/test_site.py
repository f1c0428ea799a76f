"""The built site, as `make docs` has just made it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "build" / "site"
LOADED = {("script", "src"), ("img", "src"), ("img", "srcset"), ("iframe", "src"), ("source", "src"), ("video", "src")}
NOT_LOADED = {"canonical", "next", "prev", "alternate"}


class Loads(HTMLParser):
    """Collects the addresses that a browser requests as it opens a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        self.found += [value or "" for name, value in attributes if (tag, name) in LOADED]
        if tag == "link" and named.get("rel") not in NOT_LOADED:
            self.found.append(named.get("href") or "")


def pages() -> list[Path]:
    return sorted(SITE.rglob("*.html"))


def test_every_page_of_docs_is_built() -> None:
    sources = list((ROOT / "docs").rglob("*.md"))
    for source in sources:
        name = source.relative_to(ROOT / "docs").with_suffix("")
        folder = SITE / name.parent if name.name in ("index", "README") else SITE / name
        assert (folder / "index.html").is_file(), source


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(SITE).as_posix())
def test_a_page_loads_nothing_from_elsewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    loads = Loads()
    loads.feed(text)
    assert len(loads.found) > 3
    assert [address for address in loads.found if re.match(r"(https?:)?//", address)] == []
    assert 'data-md-component="source"' not in text  # the script of this part asks the repository's host for its stars


def test_no_style_loads_anything_from_elsewhere() -> None:
    styles = list(SITE.rglob("*.css"))
    assert styles
    for style in styles:
        assert not re.search(r"url\(\s*[\"']?(https?:)?//|@import", style.read_text(encoding="utf-8")), style


def test_the_reference_has_every_public_name() -> None:
    reference = (SITE / "reference" / "spladerunner" / "index.html").read_text(encoding="utf-8")
    errors = (SITE / "reference" / "errors" / "index.html").read_text(encoding="utf-8")
    source = (ROOT / "spladerunner" / "__init__.py").read_text(encoding="utf-8")
    public = re.findall(r'^    "(\w+)",$', source.partition("__all__")[2], re.MULTILINE)
    assert len(public) > 10
    for name in public:
        if name.endswith("Error"):
            assert f'id="spladerunner.errors.{name}"' in errors, name
        else:
            assert f'id="spladerunner.{name}"' in reference, name
