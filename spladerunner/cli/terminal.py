"""Output for a terminal: weights as bars, and aligned tables.

Whatever a model, a collection or a path holds is printed through `escaped`, so that a terminal obeys none of it.
"""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spladerunner.explanation import Explanation

OWN, EXPANSION = "█", "░"
_COLORS = {OWN: "\x1b[36m", EXPANSION: "\x1b[33m"}  # cyan and yellow, which show on light and dark terminals
_PLAIN = "\x1b[0m"
SHOWN = 20
"""The number of tokens that a terminal shows by default."""


def set_up_output(as_json: bool) -> bool:
    """Sets standard output's encoding, and returns whether to print JSON: if asked for, or if it is not a terminal.

    JSON is UTF-8 in every locale. A terminal gets question marks for characters that it cannot show.
    """
    as_json = as_json or not sys.stdout.isatty()
    if isinstance(sys.stdout, TextIOWrapper):
        if as_json:
            sys.stdout.reconfigure(encoding="utf-8")
        else:
            sys.stdout.reconfigure(errors="replace")
    return as_json


def escaped(text: str) -> str:
    """Escapes each character that is not printable as JSON does: control characters, line ends, bidirectional marks."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else json.dumps(character).strip('"') for character in text)


def json_line(value: object) -> str:
    """Formats a value as one line of JSON, with its printable characters as they are."""
    return escaped(json.dumps(value, ensure_ascii=False))


def say(message: str, prefix: str = "spladerunner: ") -> None:
    """Prints a line on standard error, if that is open and not full: progress that cannot be told ends no work."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(prefix + escaped(message), file=sys.stderr, flush=True)


def has_color() -> bool:
    """True if standard output shows colors: a terminal that is not dumb, unless NO_COLOR is set (no-color.org)."""
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return False
    return os.environ.get("TERM", "dumb") != "dumb" or "WT_SESSION" in os.environ  # the latter is Windows Terminal


def legend(*, color: bool = False) -> str:
    """Explains what `bars` draws."""
    own, expansion = (_painted(ink, ink, color) for ink in (OWN, EXPANSION))
    return f"  {own} a token of the text   + {expansion} added by the model"


def bars(
    weights: Mapping[str, float],
    own_tokens: Collection[str],
    width: int,
    left_out: int = 0,
    *,
    color: bool = False,
) -> str:
    """Draws a line per token, its weight as a bar: solid for the text's own tokens, light for expansions.

    weights: heaviest first. width: columns of the terminal. left_out: the number of lighter tokens that are not drawn.
    """
    if not weights:
        return "  (no weights)"
    names = max(_columns(escaped(token)) for token in weights)
    room = max(width - names - len("+   0.00 "), 8)
    heaviest = max(weights.values())
    lines = []
    for token, weight in weights.items():
        sign, ink = (" ", OWN) if token in own_tokens else ("+", EXPANSION)
        bar = _painted(ink * max(1, round(room * weight / heaviest)), ink, color)
        lines.append(f"{sign} {_padded(escaped(token), names)} {weight:5.2f} {bar}")
    if left_out:
        lines.append(f"  … and {left_out} lighter")
    return "\n".join(lines)


def shortened(text: str, width: int) -> str:
    """Shortens the text to one line of at most `width` columns."""
    line = escaped(" ".join(text[: 4 * width].split()))
    if _columns(line) <= width:
        return line
    while _columns(line) >= width:
        line = line[:-1]
    return line + "…"


def explanation_table(explanation: Explanation) -> str:
    """Formats the shared tokens with both weights and their product, and the score."""
    rows = [
        (match.token, f"{match.query_weight:.2f}", f"{match.document_weight:.2f}", f"{match.product:.2f}")
        for match in explanation.shared
    ]
    head = ("token", "query", "document", "product")
    return table(head, [*rows, ("score", "", "", f"{explanation.score:.2f}")], right=(1, 2, 3))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[int] = ()) -> str:
    """Formats rows as aligned columns under their heads; the columns with an index in `right` are aligned right."""
    cells = [tuple(map(escaped, row)) for row in (head, *rows)]
    widths = [max(_columns(row[column]) for row in cells) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            " " * (width - _columns(cell)) + cell if column in right else _padded(cell, width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def _painted(text: str, ink: str, color: bool) -> str:
    return f"{_COLORS[ink]}{text}{_PLAIN}" if color else text


def fitted_table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    """Formats rows as tables of at most `width` columns, one below the other, each with the first column.

    All columns but the first are aligned right. A head that is too wide loses its beginning.
    """
    label = max(_columns(row[0]) for row in (head, *rows))
    room = max(width - label - 2, 8)
    head = [name if _columns(name) <= room else f"…{_last(name, room - 1)}" for name in head]
    blocks: list[list[int]] = []
    free = 0
    for column in range(1, len(head)):
        needed = 2 + max(_columns(row[column]) for row in (head, *rows))
        if not blocks or needed > free:
            blocks.append([0])
            free = width - label
        blocks[-1].append(column)
        free -= needed
    return "\n\n".join(
        table([head[at] for at in block], [[row[at] for at in block] for row in rows], right=range(1, len(block)))
        for block in blocks
    )


def _last(text: str, width: int) -> str:
    while _columns(text) > width:
        text = text[1:]
    return text


def _columns(text: str) -> int:
    """Counts terminal columns: two for a wide character, none for a combining one."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _columns(text))
