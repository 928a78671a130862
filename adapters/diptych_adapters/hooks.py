"""The plugin that registers the built-in adapters, by the same entry point as any other plugin."""

from __future__ import annotations

from diptych import hookspecs
from diptych.specs import AdapterSpec
from diptych_adapters.specs import SPECS
from diptych_adapters.telemetry import (
    diptych_after_failure,
    diptych_after_populate,
    diptych_after_search,
    diptych_after_swap,
    diptych_listens,
)

__all__ = [
    "diptych_after_failure",
    "diptych_after_populate",
    "diptych_after_search",
    "diptych_after_swap",
    "diptych_listens",
    "diptych_register_adapters",
]


@hookspecs.hookimpl
def diptych_register_adapters() -> list[AdapterSpec]:
    """All built-in adapters."""
    return [*SPECS]
