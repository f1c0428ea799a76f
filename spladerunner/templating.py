"""HTML from Jinja2 templates. Every value is escaped, and characters that HTML or UTF-8 cannot hold are replaced."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from spladerunner.errors import requires_extra

if TYPE_CHECKING:
    from jinja2 import Environment


def render(package: str, template: str, **values: object) -> str:
    """Renders a template in the folder `templates` of a package.

    Raises MissingExtraError if Jinja2 is not installed.
    """
    return _environment(package).get_template(template).render(values)


@cache
def _environment(package: str) -> Environment:
    with requires_extra("html", "Rendering HTML"):
        from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_encodable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = signed
    return environment


def signed(value: float, digits: int) -> str:
    """Prints a number with its sign, and a true minus.

    >>> signed(0.25, 2), signed(-0.25, 3)
    ('+0.25', '−0.250')
    """
    return f"{value:+.{digits}f}".replace("-", "−")


def _encodable(value: object) -> object:
    """Replaces NUL and lone surrogates in a string by U+FFFD."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return re.sub("[\0\ud800-\udfff]", "\ufffd", value)
    return value
