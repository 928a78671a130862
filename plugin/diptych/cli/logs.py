"""The log on standard error: what `--verbose` and `--log-level` show."""

from __future__ import annotations

import logging
import sys
from enum import StrEnum

LOGGERS = ("diptych", "diptych_adapters", "diptych_training")


class Level(StrEnum):
    """How much is said."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


class StandardError(logging.Handler):
    """Writes to what is standard error at that moment: while bars are drawn, their console, which writes above them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; a reader that went away ends nothing."""
        try:
            sys.stderr.write(self.format(record) + "\n")
        except (OSError, ValueError):
            self.handleError(record)


def show(level: Level) -> None:
    """Show diptych's own log from this level on; other libraries' logs stay as they are."""
    handler = StandardError()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S"))
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level.value.upper())
