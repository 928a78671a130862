"""A retriever that runs the collection's whole pipeline, from query text to documents."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self, Unpack

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.document_stores.types import FilterPolicy
from haystack.document_stores.types.filter_policy import apply_filter_policy
from haystack.utils import Secret
from qdrant_client import models

from diptych import Hit, Query, Reranker
from diptych.errors import CollectionNotFound, SearchError
from diptych.search import SearchOptions, check_options
from diptych_adapters.frameworks import Content, Reads, Source, explanations, in_thread, ranked
from diptych_adapters.haystack.documents import (
    UnusableFilter,
    checked,
    hit_to_haystack,
    media_of_query,
    text_of,
    to_qdrant,
)
from diptych_adapters.haystack.embedders import Choice, unserializable
from diptych_adapters.haystack.store import DiptychDocumentStore

logger = logging.getLogger(__name__)


@component
class DiptychRetriever:
    """Documents for a query with their scores, from the collection's whole pipeline.

    Args:
        document_store: over the collection.
        filters: Haystack's, or one of Qdrant's own, which YAML cannot hold.
        top_k: number of documents; the limit of the collection's config by default.
        filter_policy: whether filters of a run replace these or are merged with them.
        explain: put the explanation of each document's rank into `meta["_explanation"]`; costs a second search.
        content: what `content` of the documents holds: "document", or "passage", the best passage alone, as prompts
            want it. `meta["_diptych"]` has the passages, or the place of the one that is shown.
        options: as in `Collection.search`. `highlight` puts into `meta["_diptych"]["highlight"]` the sentence that
            answers best, and the places of the words that match, in the document's text.
    """

    def __init__(
        self,
        document_store: DiptychDocumentStore,
        *,
        filters: dict[str, Any] | models.Filter | None = None,
        top_k: int | None = None,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
        explain: bool = False,
        content: Content = "document",
        **options: Unpack[SearchOptions],
    ) -> None:
        if not isinstance(document_store, DiptychDocumentStore):
            raise SearchError(
                "the retriever searches a collection of diptych",
                got=type(document_store).__name__,
                expected="a DiptychDocumentStore",
                do="for a QdrantDocumentStore use its own retriever and a DiptychTextEmbedder",
            )
        self.filter_policy = FilterPolicy.from_str(str(filter_policy))
        self.document_store, self.filters, self.top_k = document_store, filters, require_top_k(top_k)
        self.explain, self._warm = explain, False
        self.content: Content = content
        self.options = check_options(options, called=type(self).__name__, without=("limit", "filter"))

    def warm_up(self) -> None:
        """Load what queries need and search once, unless the store is empty. Pipelines call this before every run."""
        if not self._warm and self.document_store.count_documents():
            self.document_store.collection.warm()
            self._warm = True

    warm_up_async = in_thread(warm_up)

    def close(self) -> None:
        """Close the document store."""
        self.document_store.close()
        self._warm = False

    close_async = in_thread(close)

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        filters: dict[str, Any] | models.Filter | None = None,
        top_k: int | None = None,
        score_threshold: float | None = None,
        media: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The documents, best first; none, with a warning in the log, while nothing was written.

        Args:
            query: its text, which may be empty beside media.
            filters, top_k, score_threshold: instead of the retriever's own.
            media: pictures and other media of the query by modality, as byte streams, `ImageContent`, paths or URLs:
                `{"image": ByteStream.from_file_path("lame.png")}`.

        Raises:
            MediaError: media cannot be read, or are not of their modality.
            UnusableFilter: Haystack does not define it, or Qdrant cannot hold points to it.
            SearchError, FingerprintMismatch: see diptych.errors.
        """
        options, hits = self._run_options(filters, top_k, score_threshold), list[Hit]()
        whole_query = _with_media(query, media)
        with _warn_if_missing():
            hits = self.document_store.collection.search(whole_query, **options)
        return {"documents": self._documents(whole_query, hits, options)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str,
        filters: dict[str, Any] | models.Filter | None = None,
        top_k: int | None = None,
        score_threshold: float | None = None,
        media: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """`run` without blocking the event loop. Queries that arrive at the same time are answered together."""
        collection = await asyncio.to_thread(lambda: self.document_store.collection)
        options, hits = self._run_options(filters, top_k, score_threshold), list[Hit]()
        whole_query = _with_media(query, media)
        with _warn_if_missing():
            hits = await collection.asearch(whole_query, **options)
        return {"documents": await asyncio.to_thread(self._documents, whole_query, hits, options)}

    def to_dict(self) -> dict[str, Any]:
        """The component as names.

        Raises:
            NotSerializable: the store was made of an open collection, or the filter is Qdrant's.
        """
        if isinstance(self.filters, models.Filter):
            raise unserializable(self, self.filters)
        return default_to_dict(
            self,
            document_store=self.document_store,
            filters=self.filters,
            top_k=self.top_k,
            filter_policy=str(self.filter_policy),
            explain=self.explain,
            content=self.content,
            **self.options,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component that `to_dict` wrote."""
        return default_from_dict(cls, data)

    def _run_options(self, filters: Any, top_k: int | None, threshold: float | None) -> SearchOptions:
        """The options of a run's search."""
        filter_pair: Any = (self.filters, filters)  # Haystack passes Qdrant's own on as they are, and says dict
        if (
            self.filter_policy is FilterPolicy.MERGE
            and all(filter_pair)
            and any(isinstance(f, models.Filter) for f in filter_pair)
        ):
            do = "write both as Haystack's, or use FilterPolicy.REPLACE"
            raise UnusableFilter("Haystack merges its own filters only", got="one of Qdrant's", do=do)
        merged = apply_filter_policy(self.filter_policy, *filter_pair)
        options: SearchOptions = {
            **self.options,
            "limit": self.top_k if top_k is None else require_top_k(top_k),
            "filter": to_qdrant(merged, self.document_store.collection),
        }
        return options if threshold is None else {**options, "score_threshold": threshold}

    def _documents(self, query: str | Query, hits: list[Hit], options: SearchOptions) -> list[Document]:
        reads = Reads.of(self.document_store.collection)
        documents = [hit_to_haystack(hit, self.content, reads) for hit in hits]
        if self.explain:
            reasons = explanations(self.document_store.collection, query, hits, options)
            for document, reason in zip(documents, reasons, strict=True):
                document.meta["_explanation"] = reason
        return documents


def _with_media(query: str, media: dict[str, Any] | None) -> str | Query:
    return Query(query, media=media_of_query(media)) if media else query


@contextmanager
def _warn_if_missing() -> Iterator[None]:
    """Log that the store does not exist yet and return nothing, as Haystack's other stores do."""
    try:
        yield
    except CollectionNotFound as error:
        logger.warning("there is nothing to search: %s", error.what)


@component
class DiptychRanker:
    """Documents in the order of a reranker's scores.

    Args:
        reranker: an adapter, or any object that satisfies `diptych.Reranker`; `cross-encoder` unless given.
        options: of the adapter; those of the pipeline of `source` unless given.
        source: a config, its path, an open collection, or `Encoders`.
        api_key: of a remote adapter: a secret from the environment.
        top_k: number of documents to return; all by default.
        meta_fields_to_embed: keys of `meta` whose values the reranker reads before the content.
        embedding_separator: stands between them.
    """

    def __init__(
        self,
        reranker: str | Reranker = "cross-encoder",
        *,
        options: dict[str, Any] | None = None,
        source: Source = None,
        api_key: Secret | None = None,
        top_k: int | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ) -> None:
        self._source = reranker
        self._choice = Choice(reranker, options, source, api_key) if isinstance(reranker, str) else None
        self.top_k = require_top_k(top_k)
        self.meta_fields_to_embed, self.embedding_separator = meta_fields_to_embed or [], embedding_separator

    @property
    def reranker(self) -> Reranker:
        """The reranker.

        Raises:
            ConfigError, RegistryError: see diptych.errors.
        """
        return self._choice.reranker() if self._choice else self._source  # type: ignore[return-value]  # no str here

    def warm_up(self) -> None:
        """Load the reranker."""
        _ = self.reranker

    warm_up_async = in_thread(warm_up)

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """The documents, each once, with the reranker's `score`, best first.

        Raises:
            UnusableDocument: one is not a document, or has no text.
            ContractError, RegistryError: see diptych.errors.
        """
        limit = self.top_k if top_k is None else require_top_k(top_k)
        unique = list({document.id: document for document in checked(documents)}.values())
        texts = [text_of(document, self.meta_fields_to_embed, self.embedding_separator) for document in unique]
        best = ranked(self.reranker, query, texts)[:limit] if texts else []
        return {"documents": [replace(unique[place], score=value) for place, value in best]}

    run_async = in_thread(run)

    def to_dict(self) -> dict[str, Any]:
        """The component as names.

        Raises:
            NotSerializable: it was made of a reranker, not of a name.
        """
        if self._choice is None:
            raise unserializable(self, self._source)
        return default_to_dict(
            self,
            reranker=self._source,
            top_k=self.top_k,
            meta_fields_to_embed=self.meta_fields_to_embed,
            embedding_separator=self.embedding_separator,
            **self._choice.init_parameters(self),
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component that `to_dict` wrote."""
        return default_from_dict(cls, data)


def require_top_k(top_k: int | None) -> int | None:
    """`top_k`; raises if it is not a number of documents.

    Raises:
        SearchError: it is not.
    """
    if top_k is not None and (not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1):
        raise SearchError(
            "top_k is not a number of documents", got=repr(top_k), expected="an integer, 1 or more, or None"
        )
    return top_k
