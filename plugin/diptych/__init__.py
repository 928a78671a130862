"""diptych plugs trained encoders, sparse lexicons, late interaction and rerankers into Qdrant collections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
from diptych.specs import AdapterSpec
from diptych.types import Document, Hit, Query, Run, SparseVector

if TYPE_CHECKING:
    from diptych.collection import Collection

__version__ = "0.1.0"
__all__ = [
    "AdapterSpec",
    "Calibrated",
    "Collection",
    "DenseEncoder",
    "DiptychError",
    "Document",
    "Fingerprint",
    "Hit",
    "MultiVectorEncoder",
    "Query",
    "Registry",
    "Reranker",
    "Run",
    "SparseEncoder",
    "SparseVector",
    "TextIndex",
    "__version__",
    "errors",
    "hookimpl",
]


def __getattr__(name: str) -> Any:
    """`Collection` is imported when first asked for: qdrant-client takes a second that `--help` need not wait."""
    if name == "Collection":
        from diptych.collection import Collection

        return Collection
    raise AttributeError(f"module 'diptych' has no attribute {name!r}")
