"""`DiptychVectorStore`: a collection as LangChain's `VectorStore`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from diptych.errors import CollectionError, DocumentError
from diptych_adapters.frameworks.hit_details import Content
from diptych_adapters.frameworks.media import Opened, Reads
from diptych_adapters.langchain.documents import to_diptych, to_langchain
from diptych_adapters.langchain.embeddings import DiptychEmbeddings
from diptych_adapters.langchain.search import Searches


class DiptychVectorStore(Searches):
    """A collection that LangChain fills and searches. The collection's own encoders make all vectors.

    `similarity_search` runs the collection's pipeline, be it dense, hybrid or with rerankers. Vectors, relevance scores
    and maximal marginal relevance need one dense slot, `slot`. Before the first document is added nothing is found.

    Args:
        collection: an open collection, or one tenant's view of it; close it when the store is no longer needed.
        slot: the dense slot; the collection's first unless given.
        content: what documents that are found hold in `page_content`: "document", or "passage", the best passage of a
            document alone, as prompts want it. Passages lie in the metadata's key `_diptych`; see docs/langchain.md.
        report_path: where documents that cannot be indexed are written, as in `Collection.populate`.

    Raises:
        SearchError: `slot` is no dense slot of the collection.
    """

    def __init__(
        self,
        collection: Opened,
        *,
        slot: str | None = None,
        content: Content = "document",
        report_path: str | Path | None = None,
    ) -> None:
        super().__init__(collection, slot, content)
        self._report_path = report_path

    @classmethod
    def from_texts(  # type: ignore[override]  # options by name, so that a misspelt one is an error
        cls,
        texts: Iterable[str],
        embedding: Embeddings | None = None,
        metadatas: Sequence[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        collection: Opened | None = None,
    ) -> Self:
        """A store over the open `collection`, with these texts in it.

        Args:
            embedding: None, or `DiptychEmbeddings` that names the dense slot; the vectors are the collection's own.

        Raises:
            CollectionError, SearchError: no collection, or other embeddings.
            DocumentError, PopulateError: as `add_texts`.
        """
        slot = _slot_of(embedding)
        if collection is None:
            what = "there is no collection to put the texts into"
            raise CollectionError(what, where=cls.__name__, do='collection=Collection.open("diptych.yaml")')
        store = cls(collection, slot=slot)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def add_texts(  # type: ignore[override]  # options by name, so that a misspelt one is an error
        self,
        texts: Iterable[str],
        metadatas: Sequence[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int | None = None,
    ) -> list[str]:
        """Add or update texts: converts them into documents and calls `add_documents`.

        Raises:
            ValueError: not as many metadatas or ids as texts.
            DocumentError, PopulateError: as `add_documents`.
        """
        contents = list(texts)
        rows = zip(contents, metadatas or [{}] * len(contents), ids or [None] * len(contents), strict=True)
        return self.add_documents(
            [Document(page_content=text, metadata=metadata, id=identifier) for text, metadata, identifier in rows]
        )

    def add_documents(  # type: ignore[override]  # options by name, so that a misspelt one is an error
        self,
        documents: Sequence[Document],
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int | None = None,
    ) -> list[str]:
        """Add or update documents by id, encoding only new and changed ones. Returns the ids in order.

        Args:
            ids: instead of the documents' own; None makes one of text and metadata.
            batch_size: accepted for LangChain, ignored.

        Raises:
            ValueError: not as many ids as documents.
            DocumentError: some cannot be indexed; the text says how many and why. The others are in the collection.
            PopulateError: see diptych.errors.
        """
        identifiers = [document.id for document in documents] if ids is None else ids
        reads = Reads.of(self.collection)
        converted = [
            to_diptych(document, identifier, reads) for document, identifier in zip(documents, identifiers, strict=True)
        ]
        if converted:
            report = self.collection.populate(converted, report_path=self._report_path, drop_media=True)
            if not report.complete:
                first = report.examples[0]
                raise DocumentError(
                    f"{report.set_aside} of {report.read} documents cannot be indexed; all others are there now",
                    where=f"collection {self.collection.name!r}, all of them in {report.report_file}",
                    got=f"document {first.id!r}: {first.reason}",
                    report=report,
                )
        return [document.id for document in converted]

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents with these ids, in their order; missing ones are left out."""
        reads = Reads.of(self.collection)
        return [to_langchain(document, reads) for document in self.collection.get(ids)]

    def delete(self, ids: Sequence[str] | None = None) -> bool:  # type: ignore[override]  # see add_texts
        """Delete the documents with these ids, if they exist.

        Raises:
            CollectionError: no ids, which would mean all documents.
        """
        if ids is None:
            raise CollectionError(
                "all documents would be deleted",
                where=f"collection {self.collection.name!r}",
                expected="ids",
                do="to empty it: collection.client.delete_collection(collection.name)",
            )
        self.collection.delete(ids)
        return True


def _slot_of(embedding: Embeddings | None) -> str | None:
    """The slot that the embeddings name.

    Raises:
        CollectionError: they are not diptych's, and would have made none of the vectors.
    """
    if embedding is None or isinstance(embedding, DiptychEmbeddings):
        return embedding.encoder.name if embedding else None
    raise CollectionError(
        "a collection makes its vectors with encoders of its own",
        where="DiptychVectorStore.from_texts, embedding",
        got=type(embedding).__name__,
        expected="None, or DiptychEmbeddings that names the dense slot",
        do="name the model in the config: slots: {dense: {adapter: ..., model: ...}}",
    )
