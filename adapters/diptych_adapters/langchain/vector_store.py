"""`DiptychVectorStore`: a collection as LangChain's `VectorStore`."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, Unpack

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from langchain_qdrant.sparse_embeddings import SparseEmbeddings, SparseVector
from qdrant_client import models

from diptych import Document as OwnDocument
from diptych import Hit, Query, search
from diptych.encoders import NamedEncoder
from diptych.errors import CollectionError, CollectionNotFound, SearchError
from diptych.search import Diversify, Pipeline, Retrieve
from diptych_adapters.frameworks import (
    MEDIA,
    SEARCH_KEY,
    Content,
    Opened,
    Reads,
    Source,
    as_text,
    encoder_of,
    fill,
    float_lists,
    hit_details,
    media_details,
    media_of,
    named,
    require_document,
)

# In `_diptych`: for each metadata key that a search set a list, of the document's own value or of none.
_HIDDEN = "hidden"

Scored = list[tuple[Document, float]]


class VectorOptions(search.VectorOptions, total=False):
    """Further options of a search by vector, as in `Collection.search`; and `content` instead of the store's.

    A `filter` that is a plain mapping, such as `{"section": "mail"}`, is read as `where`.
    """

    content: Content


class SearchOptions(search.SearchOptions, total=False):
    """Further options of a search by text, as in `Collection.search`; and `content` instead of the store's."""

    content: Content


class DiptychVectorStore(VectorStore):
    """A collection that LangChain fills and searches. The collection's own encoders make all vectors.

    LangChain's own methods take any **kwargs; these take options by name, so that a misspelt one is an error, and
    hand them to `Collection.search`.

    `similarity_search` runs the collection's pipeline, be it dense, hybrid or with rerankers. Vectors, relevance scores
    and maximal marginal relevance need one dense slot, `slot`. Before the first document is added nothing is found.

    Args:
        collection: an open collection, or one tenant's view of it; close it when the store is no longer needed.
        slot: the dense slot; the collection's first unless given.
        content: what documents that are found hold in `page_content`: "document", or "passage", the best passage of a
            document alone, as prompts want it. Passages lie in the metadata's key `_diptych`; see docs/langchain.md.
        report_path: where documents that cannot be indexed are written, as in `Collection.populate`.

    Raises:
        CollectionError: not a collection.
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
        if not isinstance(collection, Opened):
            do = 'open one: Collection.open("diptych.yaml")'
            raise CollectionError("not a collection", got=repr(collection)[:80], expected="a Collection", do=do)
        self.collection, self._configured_slot, self._content = collection, slot, content
        self._report_path = report_path
        if slot is not None:
            self._slot()

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
        if embedding is not None and not isinstance(embedding, DiptychEmbeddings):
            raise CollectionError(
                "a collection makes its vectors with encoders of its own",
                where="DiptychVectorStore.from_texts, embedding",
                got=type(embedding).__name__,
                expected="None, or DiptychEmbeddings that names the dense slot",
                do="name the model in the config: slots: {dense: {adapter: ..., model: ...}}",
            )
        if collection is None:
            what = "there is no collection to put the texts into"
            raise CollectionError(what, where=cls.__name__, do='collection=Collection.open("diptych.yaml")')
        store = cls(collection, slot=embedding.encoder.name if embedding else None)
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
            fill(self.collection, converted, report_path=self._report_path)
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

    @property
    def embeddings(self) -> DiptychEmbeddings | None:
        """The encoder of the dense slot; None without one, or where it makes a vector for each passage."""
        encoders = self.collection.encoders
        single = bool(encoders.of_kind("dense", with_passages=True)) and self._slot() in encoders.of_kind("dense")
        return DiptychEmbeddings(self._slot(), source=encoders) if single else None

    def similarity_search(self, query: str | Query, k: int = 4, **options: Unpack[SearchOptions]) -> list[Document]:  # type: ignore[override]
        """The best documents, by the collection's pipeline unless another is given."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **options)]

    def similarity_search_with_score(self, query: str | Query, k: int = 4, **options: Unpack[SearchOptions]) -> Scored:
        """The best documents with the score of the pipeline's last stage; higher is better, also for distances.

        Raises:
            SearchError: the request cannot be searched.
        """
        content, rest = self._split(options)
        try:
            return self._scored(self.collection.search(query, limit=k, **rest), content)
        except CollectionNotFound:
            return []

    async def asimilarity_search(  # type: ignore[override]
        self, query: str | Query, k: int = 4, **options: Unpack[SearchOptions]
    ) -> list[Document]:
        """`similarity_search` without blocking the event loop."""
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, **options)]

    async def asimilarity_search_with_score(
        self, query: str | Query, k: int = 4, **options: Unpack[SearchOptions]
    ) -> Scored:
        """`similarity_search_with_score` without blocking the event loop."""
        content, rest = self._split(options)
        try:
            return self._scored(await self.collection.asearch(query, limit=k, **rest), content)
        except CollectionNotFound:
            return []

    def similarity_search_by_image(self, uri: str, k: int = 4, **options: Unpack[SearchOptions]) -> list[Document]:
        """The best documents for a picture, by the slots that take pictures.

        Args:
            uri: a path below the collection's `media.root`, an https URL of an allowed host, or a data: URI.

        Raises:
            MediaError: the picture cannot be read.
            SearchError: no slot takes pictures, or the request cannot be searched.
        """
        return self.similarity_search(Query(media={"image": uri}), k, **options)

    async def asimilarity_search_by_image(
        self, uri: str, k: int = 4, **options: Unpack[SearchOptions]
    ) -> list[Document]:
        """`similarity_search_by_image` without blocking the event loop."""
        return await self.asimilarity_search(Query(media={"image": uri}), k, **options)

    def similarity_search_by_vector(  # type: ignore[override]
        self, embedding: Sequence[float], k: int = 4, **options: Unpack[VectorOptions]
    ) -> list[Document]:
        """The best documents for a vector of the dense slot."""
        return [document for document, _ in self.similarity_search_with_score_by_vector(embedding, k, **options)]

    def similarity_search_with_score_by_vector(
        self, embedding: Sequence[float], k: int = 4, **options: Unpack[VectorOptions]
    ) -> Scored:
        """The best documents for a vector of the dense slot, with their scores; higher is better.

        Raises:
            SearchError: there is no dense slot, or the vector does not fit it.
        """
        return self._by_vector(embedding, Retrieve(self._slot()), k, options)

    def max_marginal_relevance_search(  # type: ignore[override]
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Unpack[VectorOptions]
    ) -> list[Document]:
        """`k` of the dense slot's best `fetch_k`, in the order of choice.

        Args:
            lambda_mult: 1 is relevance alone, 0 diversity alone.

        Raises:
            SearchError: there is no dense slot, or the request cannot be searched.
        """
        return self.similarity_search(query, k, pipeline=self._mmr(k, fetch_k, lambda_mult), **options)

    async def amax_marginal_relevance_search(  # type: ignore[override]
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Unpack[VectorOptions]
    ) -> list[Document]:
        """`max_marginal_relevance_search` without blocking the event loop."""
        return await self.asimilarity_search(query, k, pipeline=self._mmr(k, fetch_k, lambda_mult), **options)

    def max_marginal_relevance_search_by_vector(  # type: ignore[override]
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **options: Unpack[VectorOptions],
    ) -> list[Document]:
        """As `max_marginal_relevance_search`, for a vector of the dense slot."""
        hits = self._by_vector(embedding, self._mmr(k, fetch_k, lambda_mult), k, options)
        return [document for document, _ in hits]

    def _similarity_search_with_relevance_scores(  # type: ignore[override]
        self, query: str, k: int = 4, **options: Unpack[VectorOptions]
    ) -> Scored:
        """The dense slot's best; scores of fusions and rerankers have no scale between 0 and 1."""
        slot = self._slot()
        return self._with_relevance(
            self.similarity_search_with_score(query, k, pipeline=Retrieve(slot), **options), slot
        )

    async def _asimilarity_search_with_relevance_scores(  # type: ignore[override]
        self, query: str, k: int = 4, **options: Unpack[VectorOptions]
    ) -> Scored:
        slot = self._slot()
        hits = await self.asimilarity_search_with_score(query, k, pipeline=Retrieve(slot), **options)
        return self._with_relevance(hits, slot)

    def _with_relevance(self, hits: Scored, slot: str) -> Scored:
        encoder = self.collection.encoders[slot]
        return [(document, relevance(score, encoder)) for document, score in hits]

    def _by_vector(
        self, vector: Sequence[float], stages: Retrieve | Pipeline, k: int, options: VectorOptions
    ) -> Scored:
        content, rest = self._split(options)
        try:
            return self._scored(self.collection.search_by_vector(vector, stages, limit=k, **rest), content)
        except CollectionNotFound:
            return []

    def _scored(self, hits: Iterable[Hit], content: Content) -> Scored:
        reads = Reads.of(self.collection)
        return [(hit_to_langchain(hit, content, reads), hit.score) for hit in hits]

    def _split(self, options: VectorOptions) -> tuple[Content, dict[str, Any]]:
        """What documents hold, and the options of the collection's search."""
        rest = with_where({**options})
        return rest.pop("content", self._content), rest

    def _mmr(self, k: int, fetch_k: int, lambda_mult: float) -> Pipeline:
        slot, width = self._slot(), max(k, fetch_k)
        return Retrieve(slot, width) >> Diversify(slot, relevance=lambda_mult, candidates=width)

    def _slot(self) -> str:
        """The dense slot.

        Raises:
            SearchError: the collection has none.
        """
        slots = self.collection.encoders.of_kind("dense", with_passages=True)
        slot = slots[0] if self._configured_slot is None and slots else self._configured_slot
        if slot not in slots:
            raise SearchError(
                "this needs a dense slot",
                where=f"collection {self.collection.name!r}",
                got=repr(slot) if slot else "none",
                expected=", ".join(slots) or "a collection with a dense slot",
            )
        return slot


# Scores on LangChain's scale of relevance, from 0 for nothing in common to 1 for equal.


def relevance(score: float, encoder: NamedEncoder) -> float:
    """The relevance of a hit of a dense slot.

    A cosine c is (1 + c) / 2, as in langchain-qdrant. A distance d, whose score is -d, is 1 / (1 + d).

    Raises:
        SearchError: dot products, which have no bounds.
    """
    if encoder.similarity == "cosine":
        return min(1.0, max(0.0, (1 + score) / 2))
    if encoder.similarity == "euclidean":
        return 1 / (1 + max(0.0, -score))
    raise SearchError(
        "these scores cannot be scaled to between 0 and 1",
        where=f"slot {encoder.name!r}",
        got=str(encoder.similarity),
        expected="cosine or euclidean",
        do="use similarity_search_with_score, whose score_threshold is on the slot's own scale",
    )


def with_where(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a search, where a `filter` such as `{"section": "mail"}` is part of `where`."""
    given = options.get("filter")
    if not isinstance(given, Mapping) or given.keys() & models.Filter.model_fields.keys():
        return {**options}
    return {**options, "filter": None, "where": {**(options.get("where") or {}), **given}}


def to_diptych(text: Document, identifier: str | None, reads: Reads) -> OwnDocument:
    """The document; without an id it gets one derived from its content, so equal texts are one document.

    A title in the metadata becomes the document's title, which encoders read; an empty one is no title.

    Raises:
        DocumentError: it is a passage that a search returned, and would replace its whole document.
    """
    require_document(text.metadata.get(SEARCH_KEY), where=f"document {text.id!r}")
    metadata = _without_values(text.metadata)
    media = media_of(metadata.pop(SEARCH_KEY, None))
    if isinstance(metadata.get(MEDIA), Mapping) and reads.modalities:
        media |= metadata.pop(MEDIA)
    title = metadata.get("title") or ""
    if isinstance(title, str):
        metadata.pop("title", None)
    else:
        title = ""  # other values stay in the metadata, where populate refuses them with the reason
    own = {**metadata, SEARCH_KEY: named(media)} if media else metadata
    content = OwnDocument("", text.page_content, title, own)
    identifier = identifier or str(uuid.UUID(content.content_hash()))
    return OwnDocument(identifier, content.text, content.title, metadata, media)


def to_langchain(document: OwnDocument, reads: Reads) -> Document:
    """The document, its title and its media in its metadata."""
    title = {"title": document.title} if document.title else {}
    known = reads.modalities if MEDIA not in document.metadata else ()
    given = {
        modality: form
        for modality, content in document.media.items()
        if modality in known and (form := as_text(content))
    }
    media = {SEARCH_KEY: details} if (details := media_details(document)) else {}
    media |= {MEDIA: given} if given else {}
    return Document(id=document.id, page_content=document.text, metadata={**title, **document.metadata, **media})


def hit_to_langchain(hit: Hit, content: Content, reads: Reads, **values: Any) -> Document:
    """The hit's document, or its best passage alone; passages, highlights and `values` are in its metadata."""
    found, details = to_langchain(hit.document, reads), hit_details(hit, content)
    if details:
        found.metadata[SEARCH_KEY] = {**found.metadata.get(SEARCH_KEY, {}), **details}
    if "passage" in details:
        found.page_content = hit.passages[0].text
    return with_values(found, values) if values else found


def with_values(text: Document, values: Mapping[str, Any]) -> Document:
    """The document with `values` in its metadata, which are not stored when it is added again."""
    details, metadata = text.metadata.get(SEARCH_KEY, {}), text.metadata
    hidden = {key: [metadata[key]] if key in metadata else [] for key in values} | details.get(_HIDDEN, {})
    return text.model_copy(update={"metadata": {**metadata, **values, SEARCH_KEY: {**details, _HIDDEN: hidden}}})


def _without_values(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata with the document's own values, or none, in place of those that `with_values` set."""
    details = metadata.get(SEARCH_KEY)
    hidden: Any = details.get(_HIDDEN, {}) if isinstance(details, dict) else {}
    own = {key: value for key, value in metadata.items() if key not in hidden}
    return own | {key: value for key, values in hidden.items() for value in values}


class Named:
    """An encoder of one kind.

    Args:
        encoder: a slot of `source` or an adapter, by name; the only slot of the kind unless given.
        options: of an adapter.
        source: whose slots can be named: a config, its path, an open collection, or `Encoders`.

    Raises:
        ConfigError, UnknownAdapter, AdapterOptionsError: there is no such encoder, or it is of another kind.
    """

    kind: ClassVar[Literal["dense", "sparse"]]

    def __init__(
        self, encoder: str | None = None, *, options: Mapping[str, Any] | None = None, source: Source = None
    ) -> None:
        self.encoder = encoder_of(source, encoder, options, self.kind)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.encoder.name!r})"


class DiptychEmbeddings(Named, Embeddings):
    """A dense slot or adapter, wherever LangChain takes `Embeddings`, such as `QdrantVectorStore(embedding=...)`.

        DiptychEmbeddings("dense", source="diptych.yaml")
        DiptychEmbeddings("sentence-transformers", options={"model": "all-MiniLM-L6-v2"})
        DiptychEmbeddings("dense", source=collection)

    Raises:
        UnknownAdapter, AdapterOptionsError: there is no such encoder, or it makes no dense vectors.
    """

    kind = "dense"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector for each text, from the encoder's document side.

        Raises:
            ContractError, RegistryError: see diptych.errors.
        """
        return float_lists(self.encoder.encode_document(texts))

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query.

        Raises:
            ContractError, RegistryError: see diptych.errors.
        """
        return float_lists(self.encoder.encode_query([text]))[0]


class DiptychSparseEmbeddings(Named, SparseEmbeddings):
    """A sparse slot or adapter, for `QdrantVectorStore(sparse_embedding=...)` in its sparse and hybrid modes.

        DiptychSparseEmbeddings("bm25")

    Qdrant must multiply the weights of `bm25` by IDF: `sparse_vector_params={"modifier": models.Modifier.IDF}`.

    Raises:
        UnknownAdapter, AdapterOptionsError: there is no such encoder, or it makes no sparse vectors.
    """

    kind = "sparse"

    def embed_documents(self, texts: list[str]) -> list[SparseVector]:
        """A vector for each text, from the encoder's document side.

        Raises:
            ContractError, RegistryError: see diptych.errors.
        """
        return _models(self.encoder.encode_document(texts))

    def embed_query(self, text: str) -> SparseVector:
        """The vector of a query.

        Raises:
            ContractError, RegistryError: see diptych.errors.
        """
        return _models(self.encoder.encode_query([text]))[0]


def _models(vectors: Sequence[Any]) -> list[SparseVector]:
    return [SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist()) for vector in vectors]
