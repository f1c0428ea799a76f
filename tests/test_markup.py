from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from spladerunner.markup import escaped


@given(st.text(st.characters(codec=None)))
def test_any_text_is_one_text_to_a_parser_and_can_be_written(text: str) -> None:
    seen: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            (self.value,) = (value for _, value in attrs)

        def handle_data(self, data: str) -> None:
            seen.append(data)

    parser = Parser()
    parser.feed(f'<p title="{escaped(text)}">{escaped(text)}</p>')
    parser.close()
    expected = "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)
    assert "".join(seen) == expected == (parser.value or "")
    escaped(text).encode()
