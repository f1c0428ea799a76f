"""Draws docs/expansion.svg: one sentence, expanded by the embedded pair.

python docs/picture.py
"""

from __future__ import annotations

from html import escape
from itertools import islice
from pathlib import Path

from spladerunner import Expander

SENTENCE = "The Manhattan Project and its atomic bomb helped bring an end to World War II."
SHOWN = 22
ROW, NAME, BAR = 21, 120, 500

STYLE = """
text { font: 14px system-ui, sans-serif; fill: #24292f; }
.note { fill: #57606a; } .own { fill: #1f6feb; } .expansion { fill: #e09b3d; }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3; } .note { fill: #9198a1; } }
"""


def picture(expander: Expander) -> str:
    """The SVG."""
    (weights,) = expander.expand(SENTENCE)
    own = expander.own_tokens(SENTENCE)
    heaviest = max(weights.values())
    width, height = NAME + BAR + 60, 96 + ROW * SHOWN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(SENTENCE)}, expanded</title><style>{STYLE}</style>",
        f'<text x="10" y="24">“{escape(SENTENCE)}”</text>',
        '<rect class="own" x="10" y="40" width="14" height="14"/><text class="note" x="30" y="52">its own words</text>',
        '<rect class="expansion" x="150" y="40" width="14" height="14"/>'
        '<text class="note" x="170" y="52">words it never says</text>',
    ]
    for row, (token, weight) in enumerate(islice(weights.items(), SHOWN)):
        y = 68 + ROW * row
        kind = "own" if token in own else "expansion"
        bar = round(BAR * weight / heaviest, 1)
        lines += [
            f'<text x="{NAME - 10}" y="{y + 13}" text-anchor="end">{escape(token)}</text>',
            f'<rect class="{kind}" x="{NAME}" y="{y}" width="{bar}" height="{ROW - 5}" rx="2"/>',
            f'<text class="note" x="{NAME + bar + 8}" y="{y + 13}">{weight:.2f}</text>',
        ]
    lines += [
        f'<text class="note" x="{NAME}" y="{height - 8}">and {len(weights) - SHOWN} lighter ones</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "expansion.svg").write_text(picture(Expander()), encoding="utf-8")
