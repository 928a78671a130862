"""The tools that a language model can call. It reads their docstrings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError

from diptych.agents.schemas import (
    BlocksOfSlots,
    CollectionName,
    Documents,
    DryRun,
    ExcludedIds,
    ExplainLimit,
    ExplainResult,
    FilterJson,
    HighlightFlag,
    Ids,
    InfoResult,
    LikedIds,
    Limit,
    MediaOfQuery,
    PassageCount,
    PinnedIds,
    QueryText,
    SearchResult,
    SlotName,
    SyncFlag,
    TenantName,
    TextLength,
    UnlikedIds,
    YesFlag,
)
from diptych.collection.collection import Collection
from diptych.errors import DiptychError, TenantError
from diptych.runtime.panics import is_panic
from diptych.search import Pipeline
from diptych.search.qdrant.filters import read_filter
from diptych.service.allowed_inputs import accepted, require_inline, require_words
from diptych.service.search_answers import (
    CollectionDescription,
    FoundDocument,
    PopulateAnswer,
    documents_of,
    explained,
    populated,
)
from diptych.service.served import Served, single
from diptych.types import Document, Query

LOG = logging.getLogger("diptych.agents")


class Tools:
    """The tools of one server.

    Args:
        served: the collections.
        tenant: whose documents alone the tools see and write; without, each call names one where one is needed.
    """

    def __init__(self, served: Served, *, tenant: str | None = None) -> None:
        self._served, self._tenant, self._populating = served, tenant, asyncio.Lock()

    async def search(
        self,
        query: QueryText,
        collection: CollectionName = None,
        limit: Limit = None,
        filter: FilterJson = None,
        slot: SlotName = None,
        text_length: TextLength = 4000,
        tenant: TenantName = None,
        like: LikedIds = None,
        unlike: UnlikedIds = None,
        pin: PinnedIds = None,
        exclude: ExcludedIds = None,
        passages: PassageCount = None,
        highlight: HighlightFlag = None,
        media: MediaOfQuery = None,
    ) -> SearchResult:
        """Find the documents of a collection that fit a query best, by meaning and by words.

        Returns id, score, title, text and metadata of each hit, best first. Scores compare within one answer only.
        Where the collection has passages, each hit also has the parts of its text that answer best: `passages`.
        """
        with _tool_errors():
            opened, options = await self._question(query, collection, filter, slot, tenant)
            options |= {"like": like, "unlike": unlike, "pin": pin, "exclude": exclude}
            options |= {"passages": passages, "highlight": highlight}
            require_inline(media or {}, where=f"collection {opened.name!r}, media")
            question = Query(query, media={str(name): raw for name, raw in media.items()}) if media else query
            hits = documents_of(await opened.asearch(question, limit=limit, **options))
            return SearchResult(collection=opened.name, hits=[_cut(hit, text_length) for hit in hits])

    async def explain(
        self,
        query: QueryText,
        collection: CollectionName = None,
        ids: Ids = None,
        limit: ExplainLimit = None,
        filter: FilterJson = None,
        slot: SlotName = None,
        tenant: TenantName = None,
        like: LikedIds = None,
        unlike: UnlikedIds = None,
        pin: PinnedIds = None,
        exclude: ExcludedIds = None,
        blocks: BlocksOfSlots = None,
    ) -> ExplainResult:
        """Explain why documents are, or are not, found by a query.

        For each document: rank and score in every slot, what each slot adds to the final score, the words that match,
        the scores of later stages, and where it was left behind when it is no hit.
        """
        with _tool_errors():
            opened, options = await self._question(query, collection, filter, slot, tenant)
            options |= {"like": like, "unlike": unlike, "pin": pin, "exclude": exclude}
            count = None if ids else limit
            items = await asyncio.to_thread(
                opened.explain, query, ids=ids or None, limit=count, blocks=blocks, **options
            )
            pipeline = repr(items[0].pipeline) if items else _pipeline(opened)
            return ExplainResult(collection=opened.name, pipeline=pipeline, explanations=explained(items))

    async def info(self, collection: CollectionName = None) -> InfoResult:
        """List the collections: how many documents they hold, their slots, and how they are searched."""
        with _tool_errors():
            names = [self._served.collection(collection).name] if collection else list(self._served.collections)
            described = [_described(self._served.collections[name], self._tenant) for name in names]
            return InfoResult(collections=await asyncio.gather(*described))

    async def populate(
        self,
        documents: Documents,
        collection: CollectionName = None,
        tenant: TenantName = None,
        sync: SyncFlag = False,
        dry_run: DryRun = False,
        yes: YesFlag = False,
    ) -> PopulateAnswer:
        """Write documents into a collection. A document with a known id replaces the one with that id.

        Documents that are in the collection already, unchanged, cost nothing: calling this again is safe.
        """
        with _tool_errors():
            opened = self._served.collection(collection)
            read = opened.handle.view.reading
            _require_words(opened, [read.of(document.title, document.text) for document in documents], documents=True)
            for document in documents:
                require_inline(document.media, where=f"document {document.id!r}")
            rows = [Document(**dict(document)) for document in documents]
            options = {"sync": sync, "dry_run": dry_run, "max_deleted": 1.0 if yes else None, "drop_media": yes}
            async with self._populating:
                return await asyncio.to_thread(
                    populated, opened, rows, {**options, "tenant": self._tenant_of_call(tenant)}
                )

    async def _question(
        self,
        query: str,
        collection: str | None,
        filter: dict[str, Any] | None,
        slot: str | None,
        tenant: str | None,
    ) -> tuple[Collection, dict[str, Any]]:
        """The collection of a call, and the options that searching and explaining share."""
        opened = self._served.collection(collection)
        _require_words(opened, [query])
        pipeline = await asyncio.to_thread(single, opened, slot)
        condition = None if filter is None else read_filter(filter)
        return opened, {"filter": condition, "pipeline": pipeline, "tenant": self._tenant_of_call(tenant)}

    def _tenant_of_call(self, tenant: str | None) -> str | None:
        """The tenant of a call: the server's own, if it has one."""
        if self._tenant is None or tenant in (None, self._tenant):
            return self._tenant or tenant
        raise TenantError("this server serves one tenant", got="another", do="leave `tenant` out")


@contextmanager
def _tool_errors() -> Iterator[None]:
    """diptych's errors as text, which says what to do; other errors are faults, logged and not shown."""
    try:
        yield
    except DiptychError as error:
        raise ToolError(str(error)) from error
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        LOG.exception("a tool failed")
        raise ToolError("an unexpected error; the server's log has it") from error


def _require_words(collection: Collection, texts: Sequence[str], *, documents: bool = False) -> None:
    require_words(texts, accepted(collection, documents=documents), where=f"collection {collection.name!r}")


def _cut(hit: FoundDocument, length: int) -> FoundDocument:
    return hit if len(hit.text) <= length else hit.model_copy(update={"text": f"{hit.text[:length].rstrip()}…"})


async def _described(collection: Collection, tenant: str | None) -> CollectionDescription:
    """The collection; on a server for one tenant, with the number of that tenant's documents."""
    info = await asyncio.to_thread(collection.info)
    if tenant is not None and info.tenant_field:
        info = replace(info, documents=await asyncio.to_thread(collection.count, tenant=tenant))
    return CollectionDescription.of(info, _pipeline(collection))


def _pipeline(collection: Collection) -> str:
    return repr(Pipeline.from_config(collection.handle.search_config, collection.handle.slots))
