"""Connects trained encoders, sparse lexicons, late-interaction models and rerankers to Qdrant collections.

This package is the host: contracts, plugin registry, config, and everything that talks to Qdrant. It imports no model
library; encoders come from plugins such as `diptych_adapters`. To use it, begin with `Collection`. To read the code,
begin with `protocols`, then `registry`, `populate`, `search` and `swap`; docs/architecture.md draws how they fit.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from diptych.runtime import interrupts as interrupts  # first: it ends the command quietly at Ctrl-C from here on

# isort: split

from diptych import errors
from diptych.errors import DiptychError
from diptych.hookspecs import hookimpl
from diptych.protocols import (
    Calibrated,
    DenseEncoder,
    Fingerprint,
    MultiVectorEncoder,
    Reranker,
    SparseEncoder,
    TextIndex,
)
from diptych.registry import Registry
from diptych.runtime.vendor_telemetry import quiet
from diptych.specs import AdapterSpec, RecipeSpec
from diptych.types import Document, Highlight, Hit, Passage, Query, Run, SparseVector

if TYPE_CHECKING:
    from diptych.clients import async_client, client
    from diptych.collection.collection import Collection, TenantCollection

__version__ = "0.5.0.dev0"  # the only place that names the version; pyproject.toml reads it
__all__ = [
    "AdapterSpec",
    "Calibrated",
    "Collection",
    "DenseEncoder",
    "DiptychError",
    "Document",
    "Fingerprint",
    "Highlight",
    "Hit",
    "MultiVectorEncoder",
    "Passage",
    "Query",
    "RecipeSpec",
    "Registry",
    "Reranker",
    "Run",
    "SparseEncoder",
    "SparseVector",
    "TenantCollection",
    "TextIndex",
    "__version__",
    "async_client",
    "client",
    "errors",
    "hookimpl",
    "quiet",
]
_LATER = {
    "Collection": "diptych.collection.collection",
    "TenantCollection": "diptych.collection.collection",
    "client": "diptych.clients",
    "async_client": "diptych.clients",
}


def __getattr__(name: str) -> Any:
    """Import a public name that needs qdrant-client when it is first used, which saves `--help` a second."""
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'diptych' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, including those that are imported on first use."""
    return sorted(__all__)
