"""A collection as LangChain's `BaseRetriever`, and a reranker as its `BaseDocumentCompressor`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun, Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field, PrivateAttr, create_model

from diptych import Hit, Query, Reranker
from diptych.errors import AdapterOptionsError
from diptych.search import option_fields
from diptych_adapters.frameworks import SEARCH_KEY, Content, Opened, Reads, encoders_of, explanations, ranked
from diptych_adapters.langchain.vector_store import SearchOptions, hit_to_langchain, with_values, with_where

# An option of any search is a field of the retriever; only what would leave texts out is not.
_FIELDS = {name: field for name, field in option_fields().items() if name != "with_payload"}
if TYPE_CHECKING:
    _Options = BaseRetriever
else:
    _Options = create_model("_Options", __base__=BaseRetriever, **_FIELDS)


class RetrieverOptions(SearchOptions, total=False):
    """Options of a search beside the query: those of `Collection.search`, whether to explain, and the content."""

    media: Mapping[str, Any] | None
    explain: bool


class DiptychRetriever(_Options):
    """Retrieves with `Collection.search`, by the collection's own pipeline unless another is given.

    Documents have in their metadata `_score`, the score of the last stage, `_stages`, the score of each stage, and with
    `explain` `_explanation`: ranks, scores, contributions and matching words of each slot, as JSON values. Where a slot
    has passages, `_diptych` holds `passages`: text, start, end and score of each, best first; with `highlight` it
    holds `highlight`: `sentence`, as a passage, and `words`, begin and end of each in the document's text.

    Args:
        collection: an open collection, or one tenant's view of it.
        options: as in `Collection.search`, without `with_payload`. A `filter` that is a plain mapping is read as
            `where`.
        media: pictures and other media of the query by modality, `{"image": "lame.png"}`, beside its text, which may
            then be empty.
        explain: whether each document's metadata explains its rank.
        content: what `page_content` holds: "document", or "passage", the best one alone, as prompts want it; then
            `_diptych` holds `passage` with the document's id, and start, end and score.

    A call may override them: `retriever.invoke("query", limit=3, filter=...)`.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    collection: Opened
    media: Mapping[str, Any] | None = None
    explain: bool = False
    content: Content = "document"
    if TYPE_CHECKING:

        def __init__(self, *, collection: Opened, **options: Unpack[RetrieverOptions]) -> None: ...

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **overrides: Unpack[RetrieverOptions]
    ) -> list[Document]:
        shown, options = self._options(overrides)
        whole_query = _with_media(query, options)
        return self._documents(whole_query, self.collection.search(whole_query, **options), options, *shown)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **overrides: Unpack[RetrieverOptions]
    ) -> list[Document]:
        (explain, content), options = self._options(overrides)
        whole_query = _with_media(query, options)
        hits = await self.collection.asearch(whole_query, **options)
        if not explain:
            return self._documents(whole_query, hits, options, explain, content)
        return await asyncio.to_thread(self._documents, whole_query, hits, options, explain, content)

    def _options(self, overrides: RetrieverOptions) -> tuple[tuple[bool, Content], dict[str, Any]]:
        """What is shown of the hits, and the options of the search: the call's, completed by the retriever's."""
        options: dict[str, Any] = {name: getattr(self, name) for name in (*_FIELDS, "media", "explain", "content")}
        options = with_where({**options, **overrides})
        return (options.pop("explain"), options.pop("content")), options

    def _documents(
        self, query: str | Query, hits: Sequence[Hit], options: dict[str, Any], explain: bool, content: Content
    ) -> list[Document]:
        more: list[dict[str, Any]] = [{"_score": hit.score, "_stages": dict(hit.stages)} for hit in hits]
        if explain:
            for own, reason in zip(more, explanations(self.collection, query, hits, options), strict=True):
                own["_explanation"] = reason
        reads = Reads.of(self.collection)
        return [hit_to_langchain(hit, content, reads, **own) for hit, own in zip(hits, more, strict=True)]


def _with_media(query: str, options: dict[str, Any]) -> str | Query:
    """The query with the media among the options, which are taken out of these."""
    media = options.pop("media")
    return Query(query, media=media) if media else query


class DiptychCompressor(BaseDocumentCompressor):
    """Orders documents by a reranker, which reads the query and each `page_content`.

    Args:
        reranker: an adapter's name, or an object that satisfies `diptych.Reranker`.
        options: of the adapter; those of the pipeline of `source` unless given.
        source: a config, its path, an open collection, or `Encoders`.
        top_n: how many documents are kept; all unless given.

    Raises:
        RegistryError: the reranker is unknown, is none, or cannot be made.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    reranker: Any
    options: Mapping[str, Any] | None = Field(default=None, repr=False)
    source: Any = Field(default=None, repr=False)
    top_n: int | None = Field(default=None, ge=1)

    _reranker: Reranker = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Make the reranker."""
        reranker = self.reranker
        if isinstance(reranker, str):
            reranker = encoders_of(self.source).reranker(reranker, self.options)
        if not isinstance(reranker, Reranker):
            expected = "an adapter's name, or an object with predict, max_length and independent"
            raise AdapterOptionsError(
                "this cannot rerank", where="DiptychCompressor", got=type(reranker).__name__, expected=expected
            )
        self._reranker = reranker

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The best documents, best first, with `relevance_score` in their metadata; equal scores keep their order.

        Raises:
            ContractError: the reranker returns the wrong number of scores, NaN or infinity.
        """
        best: list[Document] = []
        for place, score in ranked(self._reranker, query, [document.page_content for document in documents]):
            document, values = documents[place], {"relevance_score": score}
            if isinstance(document.metadata.get(SEARCH_KEY), dict):  # a hit of diptych: it may be added again
                best.append(with_values(document, values))
            else:
                best.append(document.model_copy(update={"metadata": {**document.metadata, **values}}))
        return best[: self.top_n]
