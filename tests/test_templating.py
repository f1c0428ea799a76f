"""Escaping, as an HTML parser reads it back, and Jinja2 as an optional dependency."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spladerunner import Expander, MissingExtraError
from spladerunner.templating import _environment, render

ECHO = '<p title="{{ text }}">{{ text }}</p>'


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A package with a template that prints one text in an attribute and an element."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "echoing" / "templates").mkdir(parents=True)
    (folder / "echoing" / "__init__.py").touch()
    (folder / "echoing" / "templates" / "echo.html").write_text(ECHO)
    sys.path.insert(0, str(folder))
    yield "echoing"
    sys.path.remove(str(folder))
    sys.modules.pop("echoing", None)


@pytest.mark.slow
@given(st.text(st.characters(codec=None)))
def test_any_text_is_one_text_to_a_parser_and_can_be_written(package: str, text: str) -> None:
    read: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag == "p"
            (self.value,) = (value for _, value in attrs)

        def handle_data(self, data: str) -> None:
            read.append(data)

    html = render(package, "echo.html", text=text)
    parser = Parser()
    parser.feed(html)
    parser.close()
    expected = "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)
    assert "".join(read) == expected == (parser.value or "")
    html.encode()


def test_without_jinja2_html_names_the_command_and_a_notebook_shows_the_repr(
    expander: Expander, monkeypatch: pytest.MonkeyPatch
) -> None:
    explanation = expander.explain("bomb", "atomic bomb")
    _environment.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'spladerunner\[html\]'") as caught:
        explanation.html()
    assert caught.value.extra == "html"
    assert explanation._repr_html_() is None


@pytest.mark.slow
def test_the_package_imports_no_jinja2() -> None:
    code = "import sys, spladerunner; print({'jinja2', 'markupsafe'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_templates_are_package_data() -> None:
    tomllib = pytest.importorskip("tomllib")
    root = Path(__file__).resolve().parents[1]
    data = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for package, folder in (("spladerunner", "spladerunner"), ("spladerunner.evaluation", "spladerunner/evaluation")):
        matched = {path for pattern in data[package] for path in (root / folder).glob(pattern)}
        assert set((root / folder / "templates").iterdir()) <= matched
