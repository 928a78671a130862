"""`DiptychDocumentStore`: Haystack's document store over a `Collection`, which encodes the documents itself."""

from __future__ import annotations

import json
import logging
import threading
import weakref
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from haystack import Document, default_from_dict, default_to_dict
from haystack.document_stores.types import DuplicatePolicy
from haystack.utils import Secret

import diptych
from diptych import Collection
from diptych_adapters.frameworks import SEARCH_KEY, Opened, Reads, fill, in_thread
from diptych_adapters.haystack.documents import (
    DuplicateDocument,
    Filters,
    UnusableDocument,
    UnusableFilter,
    checked,
    to_diptych,
    to_haystack,
    to_qdrant,
)
from diptych_adapters.haystack.embedders import Shared, serializable, source_key, unserializable

logger = logging.getLogger(__name__)
_OPEN: Shared[Collection] = Shared(Collection.close)
_WRITERS: weakref.WeakKeyDictionary[object, threading.Lock] = weakref.WeakKeyDictionary()
_TYPES = {bool: "boolean", int: "long", float: "float"}  # and `keyword` for all else, in Haystack's words


class DiptychDocumentStore:
    """Documents of a collection, written, read and searched with the collection's own encoders.

    Args:
        source: a config, as the path of its file or a mapping; a store's URL; or an open `Collection`, or one tenant's
            view of it, which its owner closes.
        name: of the collection; with a config, instead of the one it names.
        api_key: of the server behind a URL; a config names its own.
        tenant: to whose documents all methods are limited, in a collection with tenants.

    The collection is opened when it is first needed. Stores of one process with the same arguments share it. A
    coroutine runs the method without `_async` in a thread, without blocking the event loop.
    """

    def __init__(
        self,
        source: str | Path | dict[str, Any] | Opened,
        name: str | None = None,
        *,
        api_key: Secret | None = None,
        tenant: str | None = None,
    ) -> None:
        self._source = str(source) if isinstance(source, Path) else source
        self._name, self._api_key, self._tenant = name, api_key, tenant

    @property
    def collection(self) -> Opened:
        """The collection, or the tenant's view of it, opened at the first call.

        Raises:
            ConfigError, StoreError, CollectionError: see diptych.errors; TenantError: there can be no such tenant.
        """
        source = self._source
        if isinstance(source, Opened):
            collection: Opened = source
        else:

            def opened() -> Collection:
                key = self._api_key.resolve_value() if self._api_key else None
                return Collection.open(source, self._name, api_key=key)

            collection = _OPEN.acquire(self._key(source), self, opened)
        return collection if self._tenant is None else collection.for_tenant(self._tenant)

    def close(self) -> None:
        """Close the collection, unless it was given or another store uses it."""
        if not isinstance(self._source, Opened):
            _OPEN.release(self._key(self._source), self)

    def to_dict(self) -> dict[str, Any]:
        """The store as serialisable names.

        Raises:
            NotSerializable: it was made of an open collection, or of a config with a key in clear.
        """
        if isinstance(self._source, Opened):
            raise unserializable(self, self._source)
        api_key = self._api_key and self._api_key.to_dict()
        source = serializable(self._source)
        return default_to_dict(self, source=source, name=self._name, api_key=api_key, tenant=self._tenant)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The store that `to_dict` wrote."""
        return default_from_dict(cls, data)

    def count_documents(self) -> int:
        """Number of documents."""
        return self.collection.count()

    def filter_documents(self, filters: Filters = None) -> list[Document]:
        """The documents that match the filter, or all.

        Raises:
            UnusableFilter: Haystack does not define it, or Qdrant cannot hold points to it.
        """
        return list(self._matching(filters))

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Write documents and encode new and changed ones; returns how many were written or present already.

        Args:
            documents: of several with the same id the last counts, with SKIP the first.
            policy: NONE and OVERWRITE replace documents with the same id; SKIP leaves and does not count them; FAIL
                writes nothing if there are any.

        Raises:
            UnusableDocument: one is not a document, or a part of it would be lost; then none is written. If only
                metadata cannot be stored, the other documents are written.
            DuplicateDocument: with FAIL, an id exists.
            PopulateError, ContractError: see diptych.errors.
        """
        reads = Reads.of(self.collection)
        converted = [to_diptych(document, reads) for document in checked(documents)]
        # A lock for one writer at a time, of any tenant, so that a policy's check stays valid while it writes.
        with _WRITERS.setdefault(self.collection.handle, threading.Lock()):
            documents_to_write = self._apply_policy(converted, policy)
            if documents_to_write:
                fill(self.collection, documents_to_write, error=UnusableDocument)
        vectors = sum(document.embedding is not None or document.sparse_embedding is not None for document in documents)
        if vectors:
            logger.warning("the embeddings of %d documents are not stored: the collection encodes them", vectors)
        return len(documents_to_write) if policy is DuplicatePolicy.SKIP else len(converted)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete the documents with these ids; missing ids are ignored."""
        self.collection.delete(document_ids)

    def delete_all_documents(self) -> None:
        """Delete all documents, of a tenant only its own; the collection and its statistics stay."""
        self.collection.delete([document.id for document in self._matching(None)])

    def delete_by_filter(self, filters: Filters) -> int:
        """Delete the documents that match the filter; returns their number.

        Raises:
            UnusableFilter: as `filter_documents`; or there is no filter.
        """
        if not filters:
            raise UnusableFilter("there is no filter", got=repr(filters), do="delete_all_documents() deletes all")
        return self.collection.delete([document.id for document in self._matching(filters)])

    def update_by_filter(self, filters: Filters, meta: dict[str, Any]) -> int:
        """Merge `meta` into the metadata of the documents that match the filter; returns their number.

        Raises:
            UnusableFilter, UnusableDocument, PopulateError: as `filter_documents` and `write_documents`.
        """
        changed = [replace(document, meta={**document.meta, **meta}) for document in self._matching(filters)]
        return self.write_documents(changed, DuplicatePolicy.OVERWRITE)

    def count_documents_by_filter(self, filters: Filters) -> int:
        """Number of documents that match the filter."""
        return self.collection.count(to_qdrant(filters, self.collection))

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """The type of each field of the metadata: keyword, long, float or boolean. Reads all documents."""
        fields: dict[str, dict[str, str]] = {}
        for document in self._matching(None):
            for name, value in document.meta.items():
                if value is not None and name != SEARCH_KEY:
                    fields.setdefault(name, {"type": _TYPES.get(type(value), "keyword")})
        return fields

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """The least and the greatest value of a field: of its numbers, else of its texts; None without any."""
        values = list(_values(self._matching(None), metadata_field))
        numbers = [value for value in values if isinstance(value, int | float)]
        ordered: list[Any] = numbers or [value for value in values if isinstance(value, str)]
        return {"min": min(ordered, default=None), "max": max(ordered, default=None)}

    def count_unique_metadata_by_filter(self, filters: Filters, metadata_fields: list[str]) -> dict[str, int]:
        """The number of distinct values of each field in the documents that match the filter. Reads them all."""
        documents = list(self._matching(filters))
        return {field: len({*map(_value_key, _values(documents, field))}) for field in metadata_fields}

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: Filters = None,
    ) -> tuple[list[Any], int]:
        """A page of the distinct values of a field whose text contains `search_term`, and the number of all."""
        distinct = {_value_key(value): value for value in _values(self._matching(filters), metadata_field)}.values()
        matching = [value for value in distinct if (search_term or "").lower() in str(value).lower()]
        values = sorted(matching, key=lambda value: (str(value), type(value).__name__))
        return values[from_ : from_ + size], len(values)

    def _key(self, source: str | dict[str, Any]) -> Hashable:
        return source_key(source), self._name, self._api_key

    def _matching(self, filters: Filters) -> Iterator[Document]:
        reads, documents = Reads.of(self.collection), self.collection.documents(to_qdrant(filters, self.collection))
        return (to_haystack(document, reads=reads) for document in documents)

    def _apply_policy(self, documents: list[diptych.Document], policy: DuplicatePolicy) -> list[diptych.Document]:
        """The documents to write, each id once."""
        if policy in (DuplicatePolicy.NONE, DuplicatePolicy.OVERWRITE):
            return list({document.id: document for document in documents}.values())
        existing = {document.id for document in self.collection.get([document.id for document in documents])}
        accepted: dict[str, diptych.Document] = {}
        for document in documents:
            if document.id not in existing and document.id not in accepted:
                accepted[document.id] = document
            elif policy is DuplicatePolicy.FAIL:
                do = "DuplicatePolicy.SKIP keeps the existing document, OVERWRITE replaces it"
                raise DuplicateDocument("a document with this id exists", where=f"document {document.id!r}", do=do)
        return list(accepted.values())

    count_documents_async = in_thread(count_documents)
    filter_documents_async = in_thread(filter_documents)
    write_documents_async = in_thread(write_documents)
    delete_documents_async = in_thread(delete_documents)
    delete_all_documents_async = in_thread(delete_all_documents)
    delete_by_filter_async = in_thread(delete_by_filter)
    update_by_filter_async = in_thread(update_by_filter)
    count_documents_by_filter_async = in_thread(count_documents_by_filter)
    get_metadata_fields_info_async = in_thread(get_metadata_fields_info)
    get_metadata_field_min_max_async = in_thread(get_metadata_field_min_max)
    count_unique_metadata_by_filter_async = in_thread(count_unique_metadata_by_filter)
    get_metadata_field_unique_values_async = in_thread(get_metadata_field_unique_values)
    close_async = in_thread(close)


def _values(documents: Iterable[Document], field: str) -> Iterator[Any]:
    """The values of a field, `meta.` before it or not, dots leading inwards; those of a list one by one."""
    parts = field.removeprefix("meta.").split(".")
    for document in documents:
        value: Any = document.meta
        for part in parts:
            value = value.get(part) if isinstance(value, dict) else None
        yield from (item for item in (value if isinstance(value, list) else [value]) if item is not None)


def _value_key(value: object) -> object:
    """A key that distinguishes values: in Python 1, 1.0 and True are equal, and a mapping has no hash."""
    return type(value), json.dumps(value, sort_keys=True, default=str)
