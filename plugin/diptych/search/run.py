"""`search`: a batch of queries through a pipeline."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import NamedTuple, TypeVar, Unpack

from diptych.errors import PluginWarning, SearchError
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.metadata.payloads import NATIVE, head
from diptych.registry import notify_failure, notifying_failure
from diptych.reports import SearchReport
from diptych.search.excerpts.highlights import with_highlights
from diptych.search.excerpts.passages import PASSAGES_READ, with_passages
from diptych.search.filter_keys import warn_of_missing_keys
from diptych.search.hits import Answers, Hits, answers_of, hits_of
from diptych.search.microbatch import MicroBatcher
from diptych.search.options import Options, SearchOptions, media_of, options_of
from diptych.search.pins import with_pins
from diptych.search.request import SearchRequest
from diptych.search.rerank import rerank
from diptych.search.retrieve import Clock, Retrieved, retrieve_together
from diptych.stores.nodes import Waits, has_deadline, one_search
from diptych.types import Document, Hit, Query

T = TypeVar("T")


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
    return answer(handle, queries, options_of(options))


def answer(handle: CollectionHandle | View, queries: Sequence[str | Query], options: Options) -> Answers:
    """As `search`."""
    found = outcome(handle, queries, options)
    return answers_of(found.request, found.hits, queries)


def outcome(handle: CollectionHandle | View, queries: Sequence[str | Query], options: Options) -> SearchOutcome:
    """As `search`, with the request and the time of each step."""
    started = time.time_ns()
    try:
        # One query has one deadline over all its calls to the store; a batch of many has it for each call.
        with one_search() if len(queries) == 1 else nullcontext(Waits()) as waits:
            return on_current_view(handle, partial(_outcome, queries, options, waits))
    except Exception as error:
        notify_failure(handle.registry, handle.name, "search", error, started)
        raise


def _outcome(queries: Sequence[str | Query], options: Options, waits: Waits, view: View) -> SearchOutcome:
    request = SearchRequest.of(view, queries, options)
    joins_others = len(request.texts) == 1 and not has_deadline()  # a deadline holds for this thread only
    waited = waits.seconds
    retrieved = batcher(request).answer(request) if joins_others else retrieve_together([request])[0]
    # The batch may have run in another thread, which then did the waiting.
    waits.seconds = max(waits.seconds, waited + retrieved.seconds["retrieve"])
    hits = complete_hits(request, retrieved)
    if request.chosen is not None and not any(hits):
        warn_of_missing_keys(view, request.chosen, tenant=request.tenant)
    return SearchOutcome(request, hits, retrieved.seconds)


async def answer_later(handle: CollectionHandle, query: str | Query, options: Options) -> Hits:
    """As `search` for one query, without blocking the event loop or a thread."""
    found = await outcome_later(handle, query, options)
    return hits_of(found.request, found.hits[0], query)


async def outcome_later(handle: CollectionHandle | View, query: str | Query, options: Options) -> SearchOutcome:
    """As `answer_later`, with the request and the time of each step."""
    with one_search() as waits:
        return await _outcome_later(handle, query, options, waits)


async def _outcome_later(
    handle: CollectionHandle | View, query: str | Query, options: Options, waits: Waits
) -> SearchOutcome:
    started = time.time_ns()
    # Only an existing collection is searched here: checking whether another process has created it blocks.
    if handle.metadata is not None:
        try:
            view, make_request = handle.now(), partial(SearchRequest.of, queries=[query], options=options)
            # Making the request blocks where the newest documents are looked up in the store, or media are read.
            blocks = (view.search_config.recent is not None and options.pipeline is None) or bool(media_of(query))
            request = await asyncio.to_thread(make_request, view) if blocks else make_request(view)
            retrieved = await asyncio.wrap_future(batcher(request).later(request))
            waits.seconds += retrieved.seconds["retrieve"]  # the batch ran in another thread
        except SearchError:
            pass  # the slots may have changed; `outcome` reads the metadata again
        except Exception as error:
            await asyncio.to_thread(notify_failure, handle.registry, handle.name, "search", error, started)
            raise
        else:
            # Rerankers and plugins may block for long, so they get a thread; the rest is too short to be worth one.
            if not request.reads_text and not handle.registry.listening("diptych_after_search"):
                hits = complete_hits(request, retrieved)
            else:
                work = partial(complete_hits, request, retrieved)
                told = partial(notifying_failure, handle.registry, handle.name, "search", work)
                hits = await asyncio.to_thread(told)
            if request.chosen is not None and not any(hits):
                await asyncio.to_thread(warn_of_missing_keys, request.view, request.chosen, tenant=request.tenant)
            return SearchOutcome(request, hits, retrieved.seconds)
    return await asyncio.to_thread(outcome, handle, [query], options)


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
    memo, key = request.view.memo, " ".join(["batcher", *sorted(request.pipeline.slots)])
    known: MicroBatcher[SearchRequest, Retrieved] | None = memo.get(key)
    # `setdefault` is atomic: two threads that both found nothing get the same object.
    return known or memo.setdefault(key, MicroBatcher(retrieve_together))


def complete_hits(request: SearchRequest, retrieved: Retrieved) -> list[list[Hit]]:
    """The final hits of a retrieval: reranked, with all that was asked for; plugins are notified."""
    hits = reranked(request, retrieved)
    notify_plugins(request, retrieved.seconds, retrieved.began, sum(map(len, hits)))
    return hits


def reranked(request: SearchRequest, retrieved: Retrieved) -> list[list[Hit]]:
    """The retrieved hits, reranked and cut."""
    pages: Sequence[Sequence[Hit]] = retrieved.hits
    clock = Clock(retrieved.seconds)
    if request.pipeline.rerank:
        wants = request.wants or request.end
        if any(stage.read == "passages" for stage in request.pipeline.rerank):
            pages = with_passages(request, pages, max(PASSAGES_READ, request.passages))
        ranked = rerank(request, pages, wants=wants, unscored=retrieved.unscored, notes=retrieved.notes)
        pages = [ranking[request.begin : request.end] for ranking in ranked]
        clock.passed("rerank")
    if (threshold := request.score_threshold) is not None:
        pages = [[hit for hit in page if hit.score >= threshold] for page in pages]
    if request.pin:
        pages = [with_pins(request, retrieved.pinned, page) for page in pages]
    finished = completed(request, pages)
    if request.passages or request.highlight:
        clock.passed("passages")
    return finished


def completed(request: SearchRequest, pages: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
    """The final hits of each query with passages, highlights, and the parts of documents that were asked for."""
    if request.passages or request.highlight:
        pages = with_passages(request, pages, max(1, request.passages))
    if request.highlight:
        pages = with_highlights(request, pages)
    if request.reads_text and not request.passages:  # read for a reranker or the highlights, and not asked for
        pages = [[replace(hit, passages=()) if hit.passages else hit for hit in page] for page in pages]
    if request.with_payload is not True and (request.reads_text or request.view.layout != NATIVE):
        pages = [[replace(hit, document=_selected(hit.document, request)) for hit in page] for page in pages]
    return list(map(list, pages))


def notify_plugins(request: SearchRequest, seconds: dict[str, float], began: float, hits: int) -> None:
    """Notify plugins of the search; a plugin that fails is a PluginWarning, and the hits stand.

    Args:
        began: start of the first stage, by `time.perf_counter`.
        hits: number of hits.
    """
    if request.view.registry.listening("diptych_after_search"):
        report = _report(request, seconds, began, hits)
        for failure in request.view.registry.tell("diptych_after_search", report):
            warnings.warn(failure, PluginWarning, stacklevel=3)


def _report(request: SearchRequest, seconds: dict[str, float], began: float, hits: int) -> SearchReport:
    ended, now = time.time_ns(), time.perf_counter()

    def clock(at: float) -> int:
        return ended - round((now - at) * 1e9)

    times, last = {}, began
    for stage, duration in seconds.items():
        # These two run in the calling thread, which may continue some time after the batch has ended.
        begin = now - duration if stage in ("rerank", "passages") else last
        last = begin + duration
        times[stage] = (clock(begin), clock(last))
    return SearchReport(
        request.view.name,
        repr(request.pipeline),
        len(request.texts),
        seconds,
        started=clock(request.at),
        ended=ended,
        times=times,
        slots=request.pipeline.slots,
        hits=hits,
        texts=tuple(request.texts),
        tenant=request.tenant,
    )


def _selected(document: Document, request: SearchRequest) -> Document:
    """The document without what was fetched only for rerankers and passages."""
    wanted, metadata = request.wanted, document.metadata
    if request.view.layout != NATIVE:
        named = {head(key) for key in wanted}
        metadata = {key: value for key, value in metadata.items() if key in named}
    text = document.text if "text" in wanted else ""
    return replace(document, text=text, title=document.title if "title" in wanted else "", metadata=metadata)
