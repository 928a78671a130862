"""Notifies plugins of failures and logs the warnings of reports."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from typing import TypeVar

from diptych.errors import PluginWarning
from diptych.registry import Registry
from diptych.reports import FailureReport, PopulateReport

T = TypeVar("T")
LOG = logging.getLogger("diptych.populate")


def watched(registry: Registry, collection: str, operation: str, work: Callable[[], T]) -> T:
    """Run `work` and return its result; if it raises, plugins are notified and the error is raised again."""
    started = time.time_ns()
    try:
        return work()
    except Exception as error:
        tell_failure(registry, collection, operation, error, started)
        raise


def tell_failure(registry: Registry, collection: str, operation: str, error: Exception, started: int) -> None:
    """Notify plugins of an error. A plugin that fails is a PluginWarning."""
    if registry.listening("diptych_after_failure"):
        report = FailureReport(collection, operation, type(error).__name__, started, time.time_ns())
        for failure in registry.tell("diptych_after_failure", report):
            warnings.warn(failure, PluginWarning, stacklevel=3)


def logged(report: PopulateReport) -> PopulateReport:
    """The report, after logging its warnings: programs that ignore reports still see them in the log."""
    for warning in report.warnings:
        LOG.warning("collection %r: %s", report.collection, warning)
    return report
