"""Text as HTML may hold it."""

from __future__ import annotations

import re
from html import escape


def escaped(text: str) -> str:
    """Text for an element or a quoted attribute; what UTF-8 or HTML cannot hold is replaced by U+FFFD."""
    return escape(re.sub("[\0\ud800-\udfff]", "\ufffd", text))
