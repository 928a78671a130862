"""Haystack's own tests of document stores, in memory and in Qdrant Edge.

Where a test of theirs is overridden, or compares less, the method says why.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from haystack import Document
from haystack.document_stores.types import DocumentStore, DuplicatePolicy
from haystack.testing import document_store as sync_tests
from haystack.testing import document_store_async as async_tests

from diptych import Collection
from diptych_adapters.haystack import DiptychDocumentStore


class Compared:
    """How documents are compared: all but their order and their embeddings.

    Qdrant reads points in the order of their ids, which are hashes. The embeddings that Haystack's tests give are
    random; the collection's encoders make the vectors, and documents are read without them.
    """

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        def plain(documents: list[Document]) -> list[Document]:
            return sorted((replace(document, embedding=None) for document in documents), key=lambda d: d.id)

        assert plain(received) == plain(expected)

    @pytest.fixture
    def document_store(self, things: Collection) -> DiptychDocumentStore:
        return DiptychDocumentStore(things)


class TestStore(
    Compared,
    sync_tests.DocumentStoreBaseExtendedTests,
    sync_tests.CountDocumentsByFilterTest,
    sync_tests.CountUniqueMetadataByFilterTest,
    sync_tests.GetMetadataFieldsInfoTest,
    sync_tests.GetMetadataFieldMinMaxTest,
    sync_tests.GetMetadataFieldUniqueValuesTest,
):
    """All tests of `haystack.testing.document_store`.

    Two are skipped by themselves: `delete_all_documents` has no `recreate_index`, since the collection stays with its
    encoders and what they measured.
    """

    def test_write_documents(self, document_store: DocumentStore) -> None:
        """Theirs is to be overridden: it is the store's to say what no policy means. Here: as OVERWRITE."""
        document = Document(id="1", content="test doc")
        assert document_store.write_documents([document]) == 1
        assert document_store.write_documents([replace(document, content="another")]) == 1
        self.assert_documents_are_equal(document_store.filter_documents(), [replace(document, content="another")])


class TestAsyncStore(
    Compared,
    async_tests.CountDocumentsAsyncTest,
    async_tests.WriteDocumentsAsyncTest,
    async_tests.DeleteDocumentsAsyncTest,
    async_tests.FilterDocumentsAsyncTest,
    async_tests.DeleteAllAsyncTest,
    async_tests.DeleteByFilterAsyncTest,
    async_tests.UpdateByFilterAsyncTest,
    async_tests.CountDocumentsByFilterAsyncTest,
    async_tests.CountUniqueMetadataByFilterAsyncTest,
    async_tests.GetMetadataFieldsInfoAsyncTest,
    async_tests.GetMetadataFieldMinMaxAsyncTest,
    async_tests.GetMetadataFieldUniqueValuesAsyncTest,
):
    """All tests of `haystack.testing.document_store_async`; two are skipped as above."""

    @pytest.mark.asyncio
    async def test_write_documents_async(self, document_store: async_tests.AsyncDocumentStore) -> None:
        """Theirs is to be overridden, as above."""
        document = Document(id="1", content="test doc")
        assert await document_store.write_documents_async([document], DuplicatePolicy.NONE) == 1
        assert await document_store.write_documents_async([document]) == 1
        assert await document_store.count_documents_async() == 1
