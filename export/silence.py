"""Silence for the tools that an export runs, whose warnings do not concern its user."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silenced() -> Iterator[None]:
    """Suppresses warnings, and log lines below an error, of any library; also usable as a decorator."""
    disabled = logging.root.manager.disable
    # A graph is exported without transformers, and what is not imported does not log.
    transformers_logging = sys.modules.get("transformers.utils.logging")
    verbosity = transformers_logging.get_verbosity() if transformers_logging else None
    shows_progress = transformers_logging is not None and transformers_logging.is_progress_bar_enabled()
    if transformers_logging:
        transformers_logging.set_verbosity(logging.ERROR)
        transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        if transformers_logging:
            transformers_logging.set_verbosity(verbosity)
        if transformers_logging and shows_progress:
            transformers_logging.enable_progress_bar()
