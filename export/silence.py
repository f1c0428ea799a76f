"""Silence for the tools that an export runs, whose warnings do not concern its user."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as transformers_logging


@contextmanager
def silenced() -> Iterator[None]:
    """Suppresses warnings, and log lines below an error, of any library; also usable as a decorator."""
    verbosity = transformers_logging.get_verbosity()
    disabled = logging.root.manager.disable
    transformers_logging.set_verbosity(logging.ERROR)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        transformers_logging.set_verbosity(verbosity)
