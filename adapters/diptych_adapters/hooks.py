"""The plugin that registers the built-in adapters, by the same entry point as any other plugin."""

from __future__ import annotations

import importlib
import importlib.util

from diptych import hookspecs
from diptych.specs import AdapterSpec
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

FAMILIES = ("models", "lexical", "remote")


@hookspecs.hookimpl
def diptych_register_adapters() -> list[AdapterSpec]:
    """All built-in adapters: each module of `diptych_adapters.specs` holds one family in `SPECS`."""
    modules = [f"diptych_adapters.specs.{family}" for family in FAMILIES]
    present = [importlib.import_module(name) for name in modules if importlib.util.find_spec(name)]
    return [spec for module in present for spec in module.SPECS]
