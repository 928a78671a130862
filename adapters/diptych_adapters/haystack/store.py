"""`DiptychDocumentStore`: the document store, with a coroutine for each of its methods."""

from __future__ import annotations

import asyncio
from typing import Any

from haystack import Document
from haystack.document_stores.types import DuplicatePolicy

from diptych_adapters.haystack.collection_store import CollectionStore
from diptych_adapters.haystack.filters import Filters


class DiptychDocumentStore(CollectionStore):
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

    async def count_documents_async(self) -> int:
        """`count_documents` in a thread."""
        return await asyncio.to_thread(self.count_documents)

    async def filter_documents_async(self, filters: Filters = None) -> list[Document]:
        """`filter_documents` in a thread."""
        return await asyncio.to_thread(self.filter_documents, filters)

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """`write_documents` in a thread."""
        return await asyncio.to_thread(self.write_documents, documents, policy)

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """`delete_documents` in a thread."""
        await asyncio.to_thread(self.delete_documents, document_ids)

    async def delete_all_documents_async(self) -> None:
        """`delete_all_documents` in a thread."""
        await asyncio.to_thread(self.delete_all_documents)

    async def delete_by_filter_async(self, filters: Filters) -> int:
        """`delete_by_filter` in a thread."""
        return await asyncio.to_thread(self.delete_by_filter, filters)

    async def update_by_filter_async(self, filters: Filters, meta: dict[str, Any]) -> int:
        """`update_by_filter` in a thread."""
        return await asyncio.to_thread(self.update_by_filter, filters, meta)

    async def count_documents_by_filter_async(self, filters: Filters) -> int:
        """`count_documents_by_filter` in a thread."""
        return await asyncio.to_thread(self.count_documents_by_filter, filters)

    async def get_metadata_fields_info_async(self) -> dict[str, dict[str, str]]:
        """`get_metadata_fields_info` in a thread."""
        return await asyncio.to_thread(self.get_metadata_fields_info)

    async def get_metadata_field_min_max_async(self, metadata_field: str) -> dict[str, Any]:
        """`get_metadata_field_min_max` in a thread."""
        return await asyncio.to_thread(self.get_metadata_field_min_max, metadata_field)

    async def count_unique_metadata_by_filter_async(
        self, filters: Filters, metadata_fields: list[str]
    ) -> dict[str, int]:
        """`count_unique_metadata_by_filter` in a thread."""
        return await asyncio.to_thread(self.count_unique_metadata_by_filter, filters, metadata_fields)

    async def get_metadata_field_unique_values_async(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: Filters = None,
    ) -> tuple[list[Any], int]:
        """`get_metadata_field_unique_values` in a thread."""
        method = self.get_metadata_field_unique_values
        return await asyncio.to_thread(method, metadata_field, search_term, from_, size, filters)

    async def close_async(self) -> None:
        """`close` in a thread."""
        await asyncio.to_thread(self.close)
