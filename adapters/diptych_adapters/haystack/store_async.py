"""`AsyncStore`: the methods of the document store while the event loop goes on, each in a thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from haystack import Document
from haystack.document_stores.types import DuplicatePolicy

from diptych_adapters.haystack.filters import Filters

if TYPE_CHECKING:
    from diptych_adapters.haystack.store import DiptychDocumentStore


class AsyncStore:
    """Each method does what the one without `_async` does."""

    async def count_documents_async(self: DiptychDocumentStore) -> int:
        """`count_documents` in a thread."""
        return await asyncio.to_thread(self.count_documents)

    async def filter_documents_async(self: DiptychDocumentStore, filters: Filters = None) -> list[Document]:
        """`filter_documents` in a thread."""
        return await asyncio.to_thread(self.filter_documents, filters)

    async def write_documents_async(
        self: DiptychDocumentStore, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """`write_documents` in a thread."""
        return await asyncio.to_thread(self.write_documents, documents, policy)

    async def delete_documents_async(self: DiptychDocumentStore, document_ids: list[str]) -> None:
        """`delete_documents` in a thread."""
        await asyncio.to_thread(self.delete_documents, document_ids)

    async def delete_all_documents_async(self: DiptychDocumentStore) -> None:
        """`delete_all_documents` in a thread."""
        await asyncio.to_thread(self.delete_all_documents)

    async def delete_by_filter_async(self: DiptychDocumentStore, filters: Filters) -> int:
        """`delete_by_filter` in a thread."""
        return await asyncio.to_thread(self.delete_by_filter, filters)

    async def update_by_filter_async(self: DiptychDocumentStore, filters: Filters, meta: dict[str, Any]) -> int:
        """`update_by_filter` in a thread."""
        return await asyncio.to_thread(self.update_by_filter, filters, meta)

    async def count_documents_by_filter_async(self: DiptychDocumentStore, filters: Filters) -> int:
        """`count_documents_by_filter` in a thread."""
        return await asyncio.to_thread(self.count_documents_by_filter, filters)

    async def get_metadata_fields_info_async(self: DiptychDocumentStore) -> dict[str, dict[str, str]]:
        """`get_metadata_fields_info` in a thread."""
        return await asyncio.to_thread(self.get_metadata_fields_info)

    async def get_metadata_field_min_max_async(self: DiptychDocumentStore, metadata_field: str) -> dict[str, Any]:
        """`get_metadata_field_min_max` in a thread."""
        return await asyncio.to_thread(self.get_metadata_field_min_max, metadata_field)

    async def count_unique_metadata_by_filter_async(
        self: DiptychDocumentStore, filters: Filters, metadata_fields: list[str]
    ) -> dict[str, int]:
        """`count_unique_metadata_by_filter` in a thread."""
        return await asyncio.to_thread(self.count_unique_metadata_by_filter, filters, metadata_fields)

    async def get_metadata_field_unique_values_async(
        self: DiptychDocumentStore,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: Filters = None,
    ) -> tuple[list[Any], int]:
        """`get_metadata_field_unique_values` in a thread."""
        ask = self.get_metadata_field_unique_values
        return await asyncio.to_thread(ask, metadata_field, search_term, from_, size, filters)

    async def close_async(self: DiptychDocumentStore) -> None:
        """`close` in a thread."""
        await asyncio.to_thread(self.close)
