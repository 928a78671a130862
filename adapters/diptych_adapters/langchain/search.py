"""`Searches`: the search methods of LangChain's vector store, answered by a collection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypedDict, Unpack

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore
from qdrant_client import models

from diptych import Hit, Query
from diptych.encoders import NamedEncoder
from diptych.errors import CollectionError, CollectionNotFound, SearchError
from diptych.search import BoostLike, Diversify, Pipeline, Retrieve
from diptych_adapters.frameworks.hit_details import Content
from diptych_adapters.frameworks.media import Opened, Reads
from diptych_adapters.langchain.documents import hit_to_langchain
from diptych_adapters.langchain.embeddings import DiptychEmbeddings

Scored = list[tuple[Document, float]]


class VectorOptions(TypedDict, total=False):
    """Further options of a search by vector, as in `Collection.search`; and `content` instead of the store's."""

    offset: int
    filter: models.Filter | None
    score_threshold: float | None
    params: models.SearchParams | None
    boost: BoostLike | None
    pin: Sequence[str] | None
    exclude: Sequence[str] | None
    passages: int | None
    content: Content


class SearchOptions(VectorOptions, total=False):
    """Further options of a search by text, as in `Collection.search`."""

    pipeline: Pipeline | Retrieve | None
    like: Sequence[str | Query] | None
    unlike: Sequence[str | Query] | None
    highlight: bool | None


class Searches(VectorStore):
    """The part of `DiptychVectorStore` that searches.

    LangChain's own methods take any **kwargs; these take options by name, so that a misspelt one is an error, and
    hand them to `Collection.search`.

    Args:
        collection: an open collection, or one tenant's view of it.
        slot: its dense slot; the first unless given.
        content: what documents hold: "document", or "passage", the best passage alone.

    Raises:
        CollectionError: not a collection.
        SearchError: `slot` is no dense slot of the collection.
    """

    def __init__(self, collection: Opened, slot: str | None, content: Content = "document") -> None:
        if not isinstance(collection, Opened):
            do = 'open one: Collection.open("diptych.yaml")'
            raise CollectionError("not a collection", got=repr(collection)[:80], expected="a Collection", do=do)
        self.collection, self._configured_slot, self._content = collection, slot, content
        if slot is not None:
            self._slot()

    @property
    def embeddings(self) -> DiptychEmbeddings | None:
        """The encoder of the dense slot; None without one, or where it makes a vector for each passage."""
        encoders = self.collection.encoders
        single = bool(encoders.of_kind("dense", with_passages=True)) and self._slot() in encoders.of_kind("dense")
        return DiptychEmbeddings(encoders, self._slot()) if single else None

    def similarity_search(self, query: str, k: int = 4, **options: Unpack[SearchOptions]) -> list[Document]:  # type: ignore[override]
        """The best documents, by the collection's pipeline unless another is given."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **options)]

    def similarity_search_with_score(self, query: str, k: int = 4, **options: Unpack[SearchOptions]) -> Scored:
        """The best documents with the score of the pipeline's last stage; higher is better, also for distances.

        Raises:
            SearchError: the request cannot be searched.
        """
        content, rest = self._split(options)
        try:
            return self._scored(self.collection.search(query, limit=k, **rest), content)
        except CollectionNotFound:
            return []

    async def asimilarity_search(self, query: str, k: int = 4, **options: Unpack[SearchOptions]) -> list[Document]:  # type: ignore[override]
        """`similarity_search` without blocking the event loop."""
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, **options)]

    async def asimilarity_search_with_score(self, query: str, k: int = 4, **options: Unpack[SearchOptions]) -> Scored:
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
        content, rest = self._split(options)
        try:
            hits = self.collection.search(Query(media={"image": uri}), limit=k, **rest)
        except CollectionNotFound:
            return []
        return [document for document, _ in self._scored(hits, content)]

    async def asimilarity_search_by_image(
        self, uri: str, k: int = 4, **options: Unpack[SearchOptions]
    ) -> list[Document]:
        """`similarity_search_by_image` without blocking the event loop."""
        content, rest = self._split(options)
        try:
            hits = await self.collection.asearch(Query(media={"image": uri}), limit=k, **rest)
        except CollectionNotFound:
            return []
        return [document for document, _ in self._scored(hits, content)]

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
        rest: dict[str, Any] = {**options}
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
