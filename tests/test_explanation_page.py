"""The text of the page; its looks are tested in tests/browser."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from spladerunner import Expander, Explanation, SharedToken
from spladerunner.explanation_page import SHOWN, fragment, page
from spladerunner.inference.tokenizer import Span

QUERY, DOCUMENT = "who built the nuclear bomb", "The Manhattan Project and its atomic bomb"
HOSTILE = "<script>alert('1')</script> & \"bomb\" <img src=x onerror=alert(1)> \ud83d \0"


class Seen(HTMLParser):
    """The text within each kind of element, and every kind that occurs."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: dict[str, list[str]] = {}
        self.tags: list[str] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._open.append(tag)
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.text.setdefault(tag, []).append(data)


def test_words_are_marked_in_place_with_the_weights_of_expand(expander: Expander) -> None:
    explanation = expander.explain(QUERY, DOCUMENT)
    html = explanation._repr_html_()
    assert html == explanation.html() == fragment(explanation)
    (shown,) = re.findall(r'<p class="document">(.*?)</p>', html)
    assert re.sub("<[^>]*>", "", shown) == DOCUMENT
    weights = expander.expand(DOCUMENT)[0]
    for word in ("Manhattan", "atomic", "bomb"):
        assert f'title="{word.lower()} {weights[word.lower()]:.2f}">{word}</mark>' in shown
    assert re.findall(r'<mark class="shared"[^>]*>(\w+)<', shown) == ["bomb"]
    seen = Seen(html)
    expansions = {token for token in weights if token not in expander.own_tokens(DOCUMENT)}
    assert {item.strip() for item in seen.text["li"]} >= expansions
    for match in explanation.shared:
        assert match.token in seen.text["th"] and f"{match.product:.2f}" in seen.text["td"]
    assert f"{explanation.score:.2f}" in seen.text["tfoot"]


def test_hostile_text_is_escaped_everywhere() -> None:
    explanation = Explanation(
        HOSTILE, HOSTILE, (SharedToken(HOSTILE, 1, 1, 1),), {HOSTILE: 1.0}, {HOSTILE: 1.0, "b<b>": 0.5}, read=3
    )
    in_place = Explanation(HOSTILE, HOSTILE, (), {}, {HOSTILE: 1.0}, (Span(0, 40, HOSTILE),), read=45)
    for html in (page(explanation), page(in_place)):
        seen = Seen(html)
        assert not {"script", "img", "b"} & set(seen.tags)
        assert HOSTILE[:27] in "".join(seen.text["main"])
        html.encode()  # no lone surrogate is left


def test_text_that_the_model_does_not_read_is_reported_and_cut(expander: Expander) -> None:
    read, unread = "atomic bomb " * 200, "unread words " * 100_000
    html = expander.explain("bomb", read + unread).html()
    assert re.search(r"does not read the last 1,30\d,\d{3} characters", html) and len(html) < 100_000
    assert "does not read" not in expander.explain("bomb", DOCUMENT).html()


def test_a_character_of_several_tokens_is_shown_once() -> None:
    spans = (Span(0, 1, "byte 1"), Span(0, 1, "byte 2"), Span(1, 3, "ab"))
    html = fragment(Explanation("q", "😀ab", (), {}, {"byte 2": 1.0, "ab": 0.5}, spans, 3))
    assert html.count("😀") == 1 and 'title="byte 2 1.00"' in html and 'title="ab 0.50"' in html


@pytest.mark.parametrize("texts", [("", ""), ("", DOCUMENT), (QUERY, ""), (QUERY, "weather")])
def test_empty_texts_have_a_page(expander: Expander, texts: tuple[str, str]) -> None:
    explanation = expander.explain(*texts)
    (query,), (document,) = expander.encode(texts[0], role="query"), expander.encode(texts[1])
    assert f"<h2>Score</h2><p>{query.dot(document):.2f}</p>" in explanation.html()


def test_an_explanation_made_by_hand_has_a_page() -> None:
    html = Explanation("q", "some document", (SharedToken("bomb", 1.5, 2.0, 3.0),)).html()
    assert "some document" in html and "does not read" not in html


def test_many_expansions_are_folded(expander: Expander) -> None:
    html = fragment(Explanation("q", "d", (), {}, {f"t{n}": 1.0 for n in range(SHOWN + 7)}))
    assert "and 7 lighter" in html and html.count("<li") == SHOWN + 7
    assert "lighter" not in fragment(Explanation("q", "d", (), {}, {f"t{n}": 1.0 for n in range(SHOWN)}))


def test_the_page_s_module_is_loaded_only_when_it_is_rendered() -> None:
    code = "import sys, spladerunner; print('spladerunner.explanation_page' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def test_an_explanation_is_a_value_and_its_repr_is_short() -> None:
    """Equal explanations hash equally, though they hold dictionaries; their repr has the shared tokens alone."""
    expander = Expander()
    one, same = (expander.explain("atomic bomb", "nuclear reactors") for _ in range(2))
    assert one == same and hash(one) == hash(same) and len({one, same}) == 1
    assert re.findall(r"(\w+)=", repr(one).partition("SharedToken(")[0]) == ["query", "document", "shared"]
    assert all(f"{name}=" not in repr(one) for name in ("query_weights", "document_weights", "spans", "read"))
