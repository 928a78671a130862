"""The log on standard error: what `--verbose` and `--log-level` show."""

from __future__ import annotations

import logging
import sys
from enum import StrEnum

LOGGERS = ("diptych", "diptych_adapters", "diptych_training")


class Level(StrEnum):
    """The log levels of `--log-level`."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


class StandardError(logging.Handler):
    """Writes to the current standard error; while progress bars are shown, to their console, above them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; a closed pipe is ignored."""
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
