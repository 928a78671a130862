"""`search`: a batch of queries through a pipeline. `Hits` and `Answers` are its results, lists with data frames.

`search_groups`: the best hits of each value of a payload key, such as one per section or per source file.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, SupportsIndex, TypeVar, Unpack, overload

from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych import frames
from diptych.config.section import require_count
from diptych.display import Display, Displayed
from diptych.errors import DiptychError, PluginWarning, SearchError, brief
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.view import Memo, View
from diptych.metadata.payloads import THUMBNAIL_FIELDS, head, stored_thumbnail
from diptych.registry import notify_failure, notifying_failure
from diptych.reports import SearchReport
from diptych.search.excerpts import PASSAGES_READ, with_highlights, with_passages
from diptych.search.filters import warn_of_missing_keys
from diptych.search.fusion import PointId
from diptych.search.microbatch import MicroBatcher
from diptych.search.options import GroupOptions, SearchOptions, check_options
from diptych.search.query import pipeline_request
from diptych.search.request import SearchRequest
from diptych.search.rerank import rerank
from diptych.search.retrieve import (
    PINNED,
    Retrieved,
    StepTimer,
    hits_from_points,
    inputs_of,
    retrieve_together,
    with_pins,
)
from diptych.search.store_calls import read_store
from diptych.stores.nodes import Waits, has_deadline, one_search
from diptych.types import Document, Hit, Passage, Query, heading, hits_table

T = TypeVar("T")
_STARTS = ("start_index", "split_idx_start")  # where frameworks' splitters note the place of a chunk


class SearchOutcome(NamedTuple):
    """Hits, the completed request, and the time of each step.

    Args:
        request: the search as it was checked and completed.
        hits: of each query, best first.
        seconds: duration of each step; `encode` and `retrieve` are those of the whole batch that it shared with others.
    """

    request: SearchRequest
    hits: list[list[Hit]]
    seconds: Mapping[str, float]

    def answers(self, queries: Sequence[str | Query]) -> Answers:
        """The hits as `search` returns them for its queries."""
        pages = zip(self.hits, queries, strict=True)
        return Answers([hits_of(self.request, page, query) for page, query in pages], queries=queries)


def search(
    handle: CollectionHandle | View, queries: Sequence[str | Query], **options: Unpack[SearchOptions]
) -> Answers:
    """For each query its hits, best first: all queries are encoded, retrieved and reranked together.

    A single query is encoded and retrieved together with those of other threads at the same time.

    Args:
        handle: an open collection.
        queries: n texts or `Query`.
        options: see `SearchOptions`.

    Raises:
        SearchError: queries or the options cannot be used.
        TenantError: no tenant where the collection requires one, or one where it has none.
        CollectionNotFound: nothing has been populated yet.
        FingerprintMismatch: the config's encoders did not make the collection's vectors.
        ContractError: an encoder or reranker breaks its contract.
    """
    return search_outcome(handle, queries, check_options(options)).answers(queries)


def search_outcome(
    handle: CollectionHandle | View, queries: Sequence[str | Query], options: SearchOptions
) -> SearchOutcome:
    """As `search`, with the request and the time of each step; the options are checked before."""

    def once(view: View) -> SearchOutcome:
        request = SearchRequest.of(view, queries, options)
        joins_others = len(request.queries) == 1 and not has_deadline()  # a deadline holds for this thread only
        waited = waits.seconds
        retrieved = batcher(request).answer(request) if joins_others else retrieve_together([request])[0]
        # The batch may have run in another thread, which then did the waiting.
        waits.seconds = max(waits.seconds, waited + retrieved.seconds["retrieve"])
        hits = finish_search(request, retrieved)
        if request.chosen is not None and not any(hits):
            warn_of_missing_keys(view, request.chosen, tenant=request.tenant)
        return SearchOutcome(request, hits, retrieved.seconds)

    with one_question(handle, len(queries)) as waits:
        return on_current_view(handle, once)


async def asearch_outcome(handle: CollectionHandle | View, query: str | Query, options: SearchOptions) -> SearchOutcome:
    """As `search_outcome` for one query, without blocking the event loop or a thread."""
    started = time.time_ns()
    with one_search() as waits:
        # Only an existing collection is searched here: checking whether another process has created it blocks.
        if handle.metadata is not None:
            try:
                view, make_request = handle.now(), partial(SearchRequest.of, queries=[query], options=options)
                # Making it may block: the newest documents are looked up in the store, media or a filter are read.
                looks_up = view.search_config.recent is not None and options.get("pipeline") is None
                has_media = isinstance(query, Query) and bool(query.media)
                blocks = looks_up or has_media or isinstance(options.get("filter"), Mapping)
                request = await asyncio.to_thread(make_request, view) if blocks else make_request(view)
                retrieved = await asyncio.wrap_future(batcher(request).later(request))
                waits.seconds += retrieved.seconds["retrieve"]  # the batch ran in another thread
            except SearchError:
                pass  # the slots may have changed; `search_outcome` reads the metadata again
            except Exception as error:
                await asyncio.to_thread(notify_failure, handle.registry, handle.name, "search", error, started)
                raise
            else:
                # Rerankers and plugins may block for long, so they get a thread; the rest is too short to be worth one.
                if not request.reads_text and not handle.registry.listening("diptych_after_search"):
                    hits = finish_search(request, retrieved)
                else:
                    work = partial(finish_search, request, retrieved)
                    told = partial(notifying_failure, handle.registry, handle.name, "search", work)
                    hits = await asyncio.to_thread(told)
                if request.chosen is not None and not any(hits):
                    await asyncio.to_thread(warn_of_missing_keys, request.view, request.chosen, tenant=request.tenant)
                return SearchOutcome(request, hits, retrieved.seconds)
        return await asyncio.to_thread(search_outcome, handle, [query], options)


@contextmanager
def one_question(handle: CollectionHandle | View, queries: int) -> Iterator[Waits]:
    """Within the block plugins are notified of a failure; gives what was waited for the store.

    One query has one deadline over all its calls to the store; a batch of many has it for each call.
    """
    started = time.time_ns()
    try:
        with one_search() if queries == 1 else nullcontext(Waits()) as waits:
            yield waits
    except Exception as error:
        notify_failure(handle.registry, handle.name, "search", error, started)
        raise


def on_current_view(handle: CollectionHandle | View, answer: Callable[[View], T]) -> T:
    """The answer of the current view; repeated if it failed and the slots have changed, since vectors may be gone."""
    while True:
        view = handle.now()
        try:
            return answer(view)
        except SearchError:
            handle.catch_up()
            if handle.slots is view.slots:  # otherwise the view was renewed, so the search is repeated
                raise


def batcher(request: SearchRequest) -> MicroBatcher[SearchRequest, Retrieved]:
    """Return what joins single queries to these slots; one per set of slots, so a stuck encoder delays no others."""
    batchers, slots = _batchers(request.view), frozenset(request.pipeline.slots)
    # `setdefault` is atomic: two threads that both found nothing get the same object.
    return batchers.get(slots) or batchers.setdefault(slots, MicroBatcher(retrieve_together))


@Memo
def _batchers(view: View) -> dict[frozenset[str], MicroBatcher[SearchRequest, Retrieved]]:
    return {}


def finish_search(request: SearchRequest, retrieved: Retrieved) -> list[list[Hit]]:
    """The `final_hits` of a retrieval; plugins are notified of the search."""
    hits = final_hits(request, retrieved)
    notify_plugins(request, retrieved.seconds, retrieved.began, sum(map(len, hits)))
    return hits


def final_hits(request: SearchRequest, retrieved: Retrieved) -> list[list[Hit]]:
    """The retrieved hits as a caller gets them, by all steps after retrieval.

    They are reranked, cut to the page and by the score threshold, put below pinned documents, and given passages,
    highlights and the requested parts of documents.
    """
    pages: Sequence[Sequence[Hit]] = retrieved.hits
    timer = StepTimer(retrieved.seconds)
    if request.pipeline.rerank:
        wants = request.wants or request.end
        if any(stage.read == "passages" for stage in request.pipeline.rerank):
            pages = with_passages(request, pages, max(PASSAGES_READ, request.passages))
        ranked = rerank(request, retrieved, pages, wants=wants)
        pages = [ranking[request.begin : request.end] for ranking in ranked]
        timer.passed("rerank")
    if (threshold := request.score_threshold) is not None:
        pages = [[hit for hit in page if hit.score >= threshold] for page in pages]
    if request.pin:
        pages = [with_pins(request, retrieved.pinned, page) for page in pages]
    finished = with_requested_parts(request, pages)
    if request.passages or request.highlight:
        timer.passed("passages")
    return finished


def with_requested_parts(request: SearchRequest, pages: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
    """The hits of each query with passages, highlights, and the parts of documents that were asked for."""
    if request.passages or request.highlight:
        pages = with_passages(request, pages, max(1, request.passages))
    if request.highlight:
        pages = with_highlights(request, pages)
    if request.reads_text and not request.passages:  # read for a reranker or the highlights, and not asked for
        pages = [[replace(hit, passages=()) if hit.passages else hit for hit in page] for page in pages]
    if request.with_payload is not True and (request.reads_text or not request.view.layout.is_native):
        pages = [[replace(hit, document=selected(hit.document, request)) for hit in page] for page in pages]
    return list(map(list, pages))


def notify_plugins(request: SearchRequest, seconds: dict[str, float], began: float, hits: int) -> None:
    """Notify plugins of the search; a plugin that fails is a PluginWarning, and the hits stand.

    Args:
        began: start of the first stage, by `time.perf_counter`.
        hits: number of hits.
    """
    if request.view.registry.listening("diptych_after_search"):
        ended, now = time.time_ns(), time.perf_counter()
        times, last = {}, began
        for stage, duration in seconds.items():
            # These two run in the calling thread, which may continue some time after the batch has ended.
            begin = now - duration if stage in ("rerank", "passages") else last
            last = begin + duration
            times[stage] = (ended - round((now - begin) * 1e9), ended - round((now - last) * 1e9))
        report = SearchReport(
            request.view.name,
            repr(request.pipeline),
            len(request.queries),
            seconds,
            started=ended - round((now - request.at) * 1e9),
            ended=ended,
            times=times,
            slots=request.pipeline.slots,
            hits=hits,
            texts=tuple(request.texts),
            tenant=request.tenant,
        )
        for failure in request.view.registry.tell("diptych_after_search", report):
            warnings.warn(failure, PluginWarning, stacklevel=3)


def selected(document: Document, request: SearchRequest) -> Document:
    """The document without what was fetched only for rerankers, passages and groups."""
    if request.with_payload is True:
        return document
    named = {head(key) for key in request.wanted}
    metadata = {key: value for key, value in document.metadata.items() if key in named}
    text, title = (document.text if "text" in named else ""), (document.title if "title" in named else "")
    return replace(document, text=text, title=title, metadata=metadata)


def search_groups(
    handle: CollectionHandle | View,
    queries: Sequence[str | Query],
    *,
    group_by: str,
    group_size: int = 3,
    **options: Unpack[GroupOptions],
) -> list[list[HitGroup]]:
    """For each query the best groups, best first.

    A pipeline of one slot alone is grouped by Qdrant, which searches on until the groups are full. A pipeline with
    later stages is grouped from the hits that it passes on, `Pipeline.depth` of them. With pinned documents, one of a
    single slot is grouped from its candidates.

    Args:
        group_by: payload key, dots between nested ones; a list of values puts the hit into each group. Documents
            without the key are in no group.
        group_size: hits a group has at most.
        options: see `GroupOptions`; `limit` counts groups.

    Raises:
        SearchError, CollectionNotFound, FingerprintMismatch, ContractError: as `search`.
    """
    require_count("group_size", group_size, "search_groups")
    if not isinstance(group_by, str) or not group_by:
        raise SearchError("group_by is not a payload key", got=brief(group_by), expected="such as 'section'")

    asked = check_options(options, GroupOptions, "search_groups")
    with one_question(handle, len(queries)):
        return on_current_view(
            handle, lambda view: _groups(SearchRequest.of(view, queries, asked), group_by, group_size)
        )


def _groups(request: SearchRequest, group_by: str, group_size: int) -> list[list[HitGroup]]:
    make = _from_hits if request.pipeline.stages or request.pin else _from_qdrant
    seconds: dict[str, float] = {}
    groups = make(request, group_by, group_size, seconds)
    if (threshold := request.score_threshold) is not None:
        for of_query in groups:
            above = [(g, [h for h in g.hits if h.score >= threshold or PINNED in h.stages]) for g in of_query]
            of_query[:] = [HitGroup(group.value, tuple(hits)) for group, hits in above if hits]
    # The groups with the passages of their hits, and with the parts of documents that were asked for.
    pages = with_requested_parts(request, [[hit for group in of_query for hit in group.hits] for of_query in groups])
    for of_query, page in zip(groups, pages, strict=True):
        whole = (replace(hit, document=selected(hit.document, request)) for hit in page)
        of_query[:] = [replace(group, hits=tuple(islice(whole, len(group.hits)))) for group in of_query]
    if not any(groups):
        warn_of_missing_keys(request.view, request.chosen, tenant=request.tenant, group_by=group_by)
    notify_plugins(request, seconds, request.at, sum(len(group.hits) for of_query in groups for group in of_query))
    return groups


def _from_qdrant(
    request: SearchRequest, group_by: str, group_size: int, seconds: dict[str, float]
) -> list[list[HitGroup]]:
    timer = StepTimer(seconds)
    (inputs,) = inputs_of([request])
    timer.passed("encode")
    view, found = request.view, list[list[HitGroup]]()
    given: dict[str, Any] = {"group_by": group_by, "limit": request.limit, "group_size": group_size}
    given |= {"with_payload": request.selector, **request.shard_key_selector}
    for of_query in inputs:
        query, groups = pipeline_request(request, of_query, limit=request.limit * group_size), list[HitGroup]()
        if query is not None:
            asked: dict[str, Any] = {"query": query.query, "using": query.using, "prefetch": query.prefetch}
            asked |= {"query_filter": query.filter, "search_params": query.params, **given}
            answer = read_store(view, partial(view.client.query_points_groups, view.name, **asked))
            groups = [HitGroup(group.id, tuple(hits_from_points(request, group.hits))) for group in answer.groups]
        found.append(groups)
    timer.passed("retrieve")
    return found


def _from_hits(
    request: SearchRequest, group_by: str, group_size: int, seconds: dict[str, float]
) -> list[list[HitGroup]]:
    # Groups need every hit that the pipeline passes on; threshold, passages and highlights follow on those shown.
    limit = request.pipeline.depth or request.pipeline.retrieve[0].candidates
    wider = replace(request, limit=limit, with_payload=True, score_threshold=None, passages=0, highlight=False)
    (retrieved,) = retrieve_together([wider])
    pages = final_hits(wider, retrieved)
    points = {hit.point: hit for page in pages for hit in page if hit.point is not None}
    view, options = request.view, {"with_payload": [group_by], **request.shard_key_selector}
    payloads: dict[PointId, Mapping[str, Any]]
    if view.layout.is_native or not points:  # else documents may leave a part of the payload out
        payloads = {point: view.layout.write(hit.document, "") for point, hit in points.items()}
    else:
        records = read_store(view, partial(view.client.retrieve, view.name, [*points], **options))
        payloads = {record.id: record.payload or {} for record in records}
    seconds |= retrieved.seconds
    grouped = []
    for page in pages:
        groups: dict[str | int, list[Hit]] = {}
        for hit in page:  # best first, so the groups come in the order of their best hits
            node: Any = payloads.get(hit.point) if hit.point is not None else None
            for key in group_by.split("."):
                node = node.get(key) if isinstance(node, Mapping) else None
            values = node if isinstance(node, list) else [node]
            # Neither text nor integer: no group. A bool is an instance of int.
            for value in dict.fromkeys(value for value in values if type(value) in (str, int)):
                groups.setdefault(value, []).append(hit)
        first = list(groups.items())[: request.limit]
        grouped.append([HitGroup(value, tuple(members[:group_size])) for value, members in first])
    return grouped


class Hits(Displayed, list[Hit]):
    """The hits of one query, best first: a list that notebooks show as a table, and that becomes a data frame.

    It compares, copies and serialises as the plain list does. A slice is again one of these; other operations, such as
    `+` and `sorted`, return plain lists.

    Args:
        hits: best first.
        query: what was asked.
        store: where thumbnails of the hits are; None where there are none. Copies have none.
    """

    __slots__ = ("_store", "query")

    def __init__(
        self, hits: Iterable[Hit] = (), *, query: str | Query = "", store: ThumbnailStore | None = None
    ) -> None:
        super().__init__(hits)
        self.query, self._store = query, store

    @overload
    def __getitem__(self, index: SupportsIndex) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Hits: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Hit | Hits:
        found = super().__getitem__(index)
        return Hits(found, query=self.query, store=self._store) if isinstance(found, list) else found

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Hits, query=self.query), ([*self],)  # a copy must not hold on to the store

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with a row for each hit; see `diptych.frames.hits` for its columns.

        Raises:
            MissingExtra: pandas is not installed.
        """
        return frames.to_pandas(self)

    def display(self) -> Display:
        """A row for each hit, with its thumbnail where the store has one."""
        notes: list[str] = []
        try:
            pictures = self.thumbnails()
        except DiptychError as error:
            pictures, notes = {}, [f"thumbnails cannot be read: {error.what}"]
        table = hits_table(self, pictures=pictures)
        return Display(heading(len(self), "hit", self.query), [*([table] if self else []), *notes])

    def thumbnails(self) -> dict[str, bytes]:
        """The small pictures, JPEG or PNG, that the collection holds of these hits, by document id.

        Only collections with `media: {store: thumbnail}` hold some. They are read from the store at each call.

        Raises:
            DiptychError: the store does not answer, or is closed.
        """
        ids = {hit.point: hit.id for hit in self if hit.point is not None and hit.document.media}
        found = self._store.read([*ids]) if self._store and ids else {}
        return {ids[point]: picture for point, picture in found.items()}


class Answers(Displayed, list[list[Hit]]):
    """The hits of several queries, in their order: a list of `Hits` that becomes one data frame.

    Args:
        answers: for each query its hits.
        queries: as many.
    """

    __slots__ = ("queries",)

    def __init__(self, answers: Iterable[list[Hit]] = (), *, queries: Sequence[str | Query] = ()) -> None:
        super().__init__(answers)
        self.queries = tuple(queries)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Answers, queries=self.queries), ([*self],)

    def display(self) -> Display:
        """The hits of each query below one another."""
        queries = [*self.queries, *[""] * (len(self) - len(self.queries))]
        answers = zip(self, queries, strict=False)
        parts = [(own if isinstance(own, Hits) else Hits(own, query=query)).display() for own, query in answers]
        return Display(f"{len(self):,} queries", parts)

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with a row for each hit and a column `query`; see `diptych.frames.answers`.

        Raises:
            MissingExtra: pandas is not installed.
            ValueError: lists were added or removed since the search.
        """
        return frames.to_pandas(self, queries=self.queries)


@dataclass(frozen=True, slots=True)
class ThumbnailStore:
    """Where thumbnails are. A view instead would keep replaced encoders loaded as long as hits live."""

    client: QdrantBase
    name: str
    shard_key: Mapping[str, Any]

    def read(self, points: Sequence[models.ExtendedPointId]) -> dict[models.ExtendedPointId, bytes]:
        """The thumbnails of those points that have one."""
        selector = models.PayloadSelectorInclude(include=THUMBNAIL_FIELDS)
        records = read_store(
            self, lambda: self.client.retrieve(self.name, points, with_payload=selector, **self.shard_key)
        )
        found = {record.id: stored_thumbnail(record.payload) for record in records}
        return {point: picture for point, picture in found.items() if picture is not None}


def hits_of(request: SearchRequest, page: Iterable[Hit], query: str | Query) -> Hits:
    """The final hits of one query as `Hits`, which can read their thumbnails."""
    view = request.view
    store = ThumbnailStore(view.client, view.name, request.shard_key_selector) if view.has_media else None
    return Hits(page, query=query, store=store)


@dataclass(frozen=True, slots=True)
class HitGroup:
    """The best hits that share a value, best first; the first hit's score is the group's."""

    value: str | int
    hits: tuple[Hit, ...]

    @property
    def score(self) -> float:
        """Score of the best hit."""
        return self.hits[0].score

    @property
    def hit(self) -> Hit:
        """The group as one hit, for documents that were split before they were stored and are grouped by their parent.

        Its id is the value, its passages are the texts of the hits, and all else is the best hit's. Places are those in
        the parent where the splitter noted them (LangChain's `start_index`, Haystack's `split_idx_start`), else in the
        chunk.
        """
        best, passages = self.hits[0], list[Passage]()
        for hit in self.hits:
            text, metadata = hit.document.text, hit.document.metadata
            noted = (metadata.get(key) for key in _STARTS)
            start = next((value for value in noted if type(value) is int and value >= 0), 0)
            passages.append(Passage(text, start, start + len(text), hit.score))
        return replace(best, document=replace(best.document, id=str(self.value)), passages=tuple(passages), point=None)


class HitGroups(Displayed, list[HitGroup]):
    """The groups of one query, best first: a list that notebooks show as tables.

    Args:
        groups: best first.
        query: what was asked.
    """

    __slots__ = ("query",)

    def __init__(self, groups: Iterable[HitGroup] = (), *, query: str | Query = "") -> None:
        super().__init__(groups)
        self.query = query

    def display(self) -> Display:
        """The hits of each group."""
        groups = [Display(str(group.value), [hits_table(group.hits)]) for group in self]
        return Display(heading(len(self), "group", self.query), groups)
