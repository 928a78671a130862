"""Errors between Haystack and diptych; each is both diptych's and the one that Haystack expects."""

from __future__ import annotations

from haystack.core.errors import SerializationError
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.errors import FilterError

from diptych.errors import ConfigError, DocumentError, SearchError


class UnusableFilter(SearchError, FilterError):
    """A filter that Haystack does not define, or that Qdrant cannot evaluate."""


class UnusableDocument(DocumentError, ValueError):
    """A document that cannot be stored or encoded completely."""


class DuplicateDocument(DocumentError, DuplicateDocumentError):
    """A document whose id exists, under a policy that forbids this."""


class NotSerializable(ConfigError, SerializationError):
    """A component with content that YAML cannot hold."""
