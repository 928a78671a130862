"""`DiptychRetriever`: a collection as LangChain's `BaseRetriever`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict
from qdrant_client import models

from diptych import Hit
from diptych.search import Pipeline, Retrieve
from diptych_adapters.langchain.documents import Opened, to_langchain


class Asked(TypedDict, total=False):
    """Options of a search beside the query: those of `Collection.search`, and whether to explain."""

    limit: int | None
    offset: int
    filter: models.Filter | None
    score_threshold: float | None
    pipeline: Pipeline | Retrieve | None
    params: models.SearchParams | None
    explain: bool


class DiptychRetriever(BaseRetriever):
    """Retrieves with `Collection.search`, by the collection's own pipeline unless another is given.

    Documents have in their metadata `_score`, the score of the last stage, `_stages`, the score of each stage, and with
    `explain` `_explanation`: ranks, scores, contributions and matching words of each slot, as JSON values.

    Args:
        collection: an open collection, or one tenant's view of it.
        limit, offset, filter, score_threshold, pipeline, params: as in `Collection.search`.
        explain: whether each document says why it was found.

    A call may say otherwise: `retriever.invoke("query", limit=3, filter=...)`.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    collection: Opened
    limit: int | None = None
    offset: int = 0
    filter: models.Filter | None = None
    score_threshold: float | None = None
    pipeline: Pipeline | Retrieve | None = None
    params: models.SearchParams | None = None
    explain: bool = False

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **asked: Unpack[Asked]
    ) -> list[Document]:
        wanted = self._wanted(asked)
        explain = wanted.pop("explain")
        hits = self.collection.search(query, **wanted)
        return self._documents(query, hits, wanted, explain)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **asked: Unpack[Asked]
    ) -> list[Document]:
        wanted = self._wanted(asked)
        explain = wanted.pop("explain")
        hits = await self.collection.asearch(query, **wanted)
        if not explain:
            return self._documents(query, hits, wanted, explain)
        return await asyncio.to_thread(self._documents, query, hits, wanted, explain)

    def _wanted(self, asked: Asked) -> dict[str, Any]:
        """The options of the call, completed by the retriever's."""
        return {**{name: getattr(self, name) for name in Asked.__annotations__}, **asked}

    def _documents(self, query: str, hits: Sequence[Hit], wanted: dict[str, Any], explain: bool) -> list[Document]:
        if not explain or not hits:
            return [to_langchain(hit.document, _score=hit.score, _stages=dict(hit.stages)) for hit in hits]
        alike = {name: wanted[name] for name in ("filter", "pipeline", "params")}
        reasons = self.collection.explain(query, ids=[hit.id for hit in hits], **alike)
        return [
            to_langchain(hit.document, _score=hit.score, _stages=dict(hit.stages), _explanation=reason.as_dict())
            for hit, reason in zip(hits, reasons, strict=True)
        ]
