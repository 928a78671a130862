"""The log on standard error: what `--verbose` and `--log-level` show, and diptych's own warnings."""

from __future__ import annotations

import logging
import sys
import warnings
from enum import StrEnum
from typing import TextIO

from diptych.cli.ui.output import warn

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


def show_warnings() -> None:
    """Show diptych's own warnings as commands show theirs, without the line of code that gave them."""
    plain = warnings.showwarning

    def show_warning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is None and category.__module__.partition(".")[0] == "diptych":
            return warn([str(message)])
        return plain(message, category, filename, lineno, file, line)

    warnings.showwarning = show_warning
    # Pillow's warning of a large picture, which is rejected by `media.max_pixels` with a message of its own.
    warnings.filterwarnings("ignore", message=r"Image size \(\d+ pixels\) exceeds limit")
