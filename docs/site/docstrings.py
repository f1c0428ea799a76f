"""Docstrings of this project as Markdown: parameters become a list, doctests and drawings become blocks of code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from griffe import Class, Extension, Function, Module, Object

NAMES = re.compile(r"[a-z_]+(?:, [a-z_]+)*: ")
DRAWING = ("├─", "─▶")


class Docstrings(Extension):  # type: ignore[misc]
    """Rewrites each docstring before it is rendered."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Visits all objects of a package."""
        self._rewrite(pkg)

    def _rewrite(self, item: Object) -> None:
        if item.docstring:
            item.docstring.value = markdown(item.docstring.value, set(_names(item)))
        for member in item.members.values():
            if not member.is_alias:
                self._rewrite(member)


def markdown(docstring: str, names: set[str]) -> str:
    """The docstring as Markdown. names: the parameters and attributes that a line `name: text` may describe."""
    return "\n\n".join(_paragraph(paragraph, names) for paragraph in re.split(r"\n\s*\n", docstring.strip("\n")))


def _paragraph(paragraph: str, names: set[str]) -> str:
    if paragraph.lstrip().startswith(">>>"):
        return f"```pycon\n{paragraph}\n```"
    if any(sign in paragraph for sign in DRAWING):
        return f"```text\n{paragraph}\n```"
    listed = [
        f"- **{found[0][:-2]}**: {line[found.end() :]}" if (found := _described(line, names)) else line.strip()
        for line in paragraph.splitlines()
    ]
    if not listed[0].startswith("- **"):
        first = next((at for at, line in enumerate(listed) if line.startswith("- **")), len(listed))
        listed.insert(first, "")
    return "\n".join(listed)


def _described(line: str, names: set[str]) -> re.Match[str] | None:
    found = NAMES.match(line)
    return found if found and set(found[0][:-2].split(", ")) <= names else None


def _names(item: Object) -> Iterator[str]:
    if isinstance(item, Function):
        yield from (parameter.name for parameter in item.parameters)
    if isinstance(item, Class):
        yield from item.members
        if isinstance(constructor := item.members.get("__init__"), Function):
            yield from (parameter.name for parameter in constructor.parameters)
