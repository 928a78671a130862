"""Haystack components over diptych: embedders, a document store, a retriever and a ranker.

Begin with `store` (Haystack's document store over a `Collection`), then `retriever`,
`embedders` and `ranker`. Haystack's own usage reports are off (`diptych.quiet`) unless
HAYSTACK_TELEMETRY_ENABLED=True is set in the environment.
"""

from __future__ import annotations

from diptych.errors import MissingExtra

try:
    import haystack as _haystack  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "haystack":
        raise
    raise MissingExtra("diptych_adapters.haystack needs haystack-ai", do="pip install 'diptych[haystack]'") from error

from diptych_adapters.haystack.embedders import (
    DiptychDocumentEmbedder,
    DiptychSparseDocumentEmbedder,
    DiptychSparseTextEmbedder,
    DiptychTextEmbedder,
)
from diptych_adapters.haystack.retriever import DiptychRanker, DiptychRetriever
from diptych_adapters.haystack.store import DiptychDocumentStore

__all__ = [
    "DiptychDocumentEmbedder",
    "DiptychDocumentStore",
    "DiptychRanker",
    "DiptychRetriever",
    "DiptychSparseDocumentEmbedder",
    "DiptychSparseTextEmbedder",
    "DiptychTextEmbedder",
]
