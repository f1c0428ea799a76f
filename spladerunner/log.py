"""Debug records of internal decisions, on loggers below "spladerunner"."""

from __future__ import annotations

import sys


def debug(module: str, message: str, *arguments: object) -> None:
    """Logs a message on the module's logger, if the program has imported logging.

    A program that has not cannot read records either, so importing logging here would only make the start slower. Nor
    is it imported while another thread imports it: a child of fork would wait for that thread, which it does not have.
    """
    logging = sys.modules.get("logging")
    if logging is not None and not getattr(logging.__spec__, "_initializing", False):
        logging.getLogger(module).debug(message, *arguments, stacklevel=2)
