"""diptych plugs trained encoders, sparse lexicons, late interaction and rerankers into Qdrant collections."""

from __future__ import annotations

from diptych import errors
from diptych.collection import Collection
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
