"""Bundles that are part of the package, a folder each."""

from pathlib import Path

EMBEDDED = "tiny-en"
"""The pair that the package contains, and the default model."""


def embedded_folder() -> Path:
    """The folder of the embedded pair."""
    return Path(__path__[0]) / EMBEDDED
