"""Notifies plugins of failures and logs the warnings of reports."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import TypeVar

from diptych.errors import PluginWarning
from diptych.registry import Registry
from diptych.reports import FailureReport

T = TypeVar("T")


def notifying_failure(registry: Registry, collection: str, operation: str, work: Callable[[], T]) -> T:
    """Run `work` and return its result; if it raises, plugins are notified and the error is raised again."""
    started = time.time_ns()
    try:
        return work()
    except Exception as error:
        notify_failure(registry, collection, operation, error, started)
        raise


def notify_failure(registry: Registry, collection: str, operation: str, error: Exception, started: int) -> None:
    """Notify plugins of an error. A plugin that fails is a PluginWarning."""
    if registry.listening("diptych_after_failure"):
        report = FailureReport(collection, operation, type(error).__name__, started, time.time_ns())
        for failure in registry.tell("diptych_after_failure", report):
            warnings.warn(failure, PluginWarning, stacklevel=3)
