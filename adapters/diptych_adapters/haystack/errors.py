"""What goes wrong between Haystack and diptych: each error is one of diptych's and the one that Haystack expects."""

from __future__ import annotations

from haystack.core.errors import SerializationError
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.errors import FilterError

from diptych.errors import ConfigError, DocumentError, SearchError


class UnusableFilter(SearchError, FilterError):
    """A filter that Haystack does not define, or that Qdrant cannot hold points to."""


class UnusableDocument(DocumentError, ValueError):
    """A document that cannot be stored or encoded without losing something of it."""


class DuplicateDocument(DocumentError, DuplicateDocumentError):
    """A document whose id is taken, where the policy says that this is an error."""


class NotSerializable(ConfigError, SerializationError):
    """A component that holds what YAML cannot."""
