"""The tools that a language model can call. It reads their docstrings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, TypeAlias

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from diptych.collection.collection import Collection
from diptych.errors import DiptychError, TenantError
from diptych.media import Modality
from diptych.runtime.panics import is_panic
from diptych.search import Pipeline
from diptych.search.qdrant.filters import read_filter
from diptych.search.request import MOST_EXAMPLES
from diptych.types import Document, Query
from diptych_serve.service.allowed_inputs import accepted, require_inline, require_words
from diptych_serve.service.search_answers import (
    CollectionDescription,
    ExplainedDocument,
    FoundDocument,
    PopulateAnswer,
    documents_of,
    explained,
    populated,
)
from diptych_serve.service.served import Served, single

MOST_HITS, MOST_EXPLAINED, MOST_DOCUMENTS, MOST_CHARACTERS = 100, 20, 1000, 100_000
MOST_PASSAGES = 100
CollectionName: TypeAlias = Annotated[
    str | None, Field(description="Name of the collection, as `info` lists it. May be left out when there is only one.")
]
QueryText: TypeAlias = Annotated[
    str,
    Field(min_length=1, max_length=MOST_CHARACTERS, description="What to look for: words, a phrase or a question."),
]
SlotName: TypeAlias = Annotated[
    str | None,
    Field(description="Search only this slot, such as the dense or the lexical one; by default the whole pipeline."),
]
FilterJson: TypeAlias = Annotated[
    dict[str, Any] | None,
    Field(
        description='A Qdrant filter over the metadata, such as {"must": [{"key": "section", "match": {"value": '
        '"mail"}}]}. By default all documents.'
    ),
]
TenantName: TypeAlias = Annotated[
    str | None, Field(description="Tenant whose documents to search, if documents belong to tenants.")
]
PinnedIds: TypeAlias = Annotated[
    list[str] | None,
    Field(max_length=MOST_HITS, description="Ids of documents to put first, in this order, for every query."),
]
ExcludedIds: TypeAlias = Annotated[
    list[str] | None, Field(max_length=MOST_DOCUMENTS, description="Ids of documents to leave out.")
]
LikedIds: TypeAlias = Annotated[
    list[str] | None,
    Field(max_length=MOST_EXAMPLES, description="Ids of helpful documents: find more like them."),
]
UnlikedIds: TypeAlias = Annotated[
    list[str] | None,
    Field(max_length=MOST_EXAMPLES, description="Ids of unhelpful documents: find others unlike them."),
]
BlocksOfSlots: TypeAlias = Annotated[
    dict[str, list[int] | dict[str, int]] | None,
    Field(
        description="Widths of the blocks of each dense slot's vectors, in order or by name, such as "
        '{"dense": {"title": 384, "text": 384}}; adds the part of each block in the score.'
    ),
]
PassageCount: TypeAlias = Annotated[
    Annotated[int, Field(ge=0, le=MOST_PASSAGES)] | None,
    Field(
        description="Maximum passages to return per hit, best first, in collections with passages; by default the "
        "config's number, usually 3."
    ),
]
HighlightFlag: TypeAlias = Annotated[
    bool | None,
    Field(
        description="Return the sentence of each hit that answers best, and the positions of the matching words, in "
        "`highlight`. Slower; by default the config's setting, usually off."
    ),
]
MediaOfQuery: TypeAlias = Annotated[
    dict[Modality, str | list[Any]] | None,
    Field(
        description="An image or other media to search for, with or without words, in collections with slots that read "
        'media: by modality a data: URI, such as {"image": "data:image/png;base64,..."}, or lists of numbers.'
    ),
]
Ids: TypeAlias = Annotated[
    list[str] | None,
    Field(max_length=MOST_EXPLAINED, description="Explain these documents instead of the hits."),
]
Limit: TypeAlias = Annotated[
    Annotated[int, Field(ge=1, le=MOST_HITS)] | None,
    Field(description="Number of hits; by default the config's number, usually 10."),
]
ExplainLimit: TypeAlias = Annotated[
    Annotated[int, Field(ge=1, le=MOST_EXPLAINED)] | None,
    Field(description="Number of hits to explain; by default as many as a search returns."),
]
TextLength: TypeAlias = Annotated[
    int, Field(ge=0, description="Maximum characters returned of each text; a cut text ends with an ellipsis.")
]
SyncFlag: TypeAlias = Annotated[bool, Field(description="Delete all other documents of the collection.")]
DryRun: TypeAlias = Annotated[bool, Field(description="Only count what would change; write nothing.")]
YesFlag: TypeAlias = Annotated[
    bool,
    Field(description="Let `sync` delete more than the config allows (default: a fifth), and documents lose media."),
]

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


class SearchResult(BaseModel):
    """The hits, best first."""

    collection: str
    hits: list[FoundDocument]


class ExplainResult(BaseModel):
    """Why each document has its rank."""

    collection: str
    pipeline: str = Field(description="Stages that were run.")
    explanations: list[ExplainedDocument]


class InfoResult(BaseModel):
    """The collections of this server."""

    collections: list[CollectionDescription]


class NewDocument(BaseModel):
    """A document to write."""

    id: Annotated[str, Field(min_length=1, description="Unique in the collection; a known id replaces that document.")]
    text: str
    title: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict, description="JSON values to filter by.")
    media: dict[Modality, str | list[Any]] = Field(
        default_factory=dict, description="Images or other media by modality, as a data: URI or lists of numbers."
    )


Documents: TypeAlias = Annotated[
    list[NewDocument], Field(min_length=1, max_length=MOST_DOCUMENTS, description="The documents.")
]
