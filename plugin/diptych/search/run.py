"""`search`: a batch of queries through a pipeline."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar, Unpack

from diptych.errors import PluginWarning, SearchError
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.notify import tell_failure, watched
from diptych.handle.snapshot import View
from diptych.metadata.payload_paths import head
from diptych.metadata.payloads import NATIVE
from diptych.reports import SearchReport
from diptych.search.filter_keys import warn_of_missing_keys
from diptych.search.microbatch import Gathering
from diptych.search.options import Options, SearchOptions
from diptych.search.request import Asked
from diptych.search.rerank import rerank
from diptych.search.retrieve import Found, found_together
from diptych.stores.nodes import has_deadline
from diptych.types import Document, Hit, Query

T = TypeVar("T")


def search(
    handle: CollectionHandle | View, queries: Sequence[str | Query], **options: Unpack[SearchOptions]
) -> list[list[Hit]]:
    """For each query its hits, best first: all queries are encoded, retrieved and reranked together.

    A single query is encoded and retrieved together with those of other threads at the same time.

    Args:
        handle: an open collection.
        queries: n texts or `Query`.
        options: see `SearchOptions`.

    Raises:
        SearchError: queries or options that cannot be used.
        TenantError: no tenant where the collection requires one, or one where it has none.
        CollectionNotFound: nothing has been populated yet.
        FingerprintMismatch: the config's encoders did not make the collection's vectors.
        ContractError: an encoder or reranker breaks its contract.
    """
    return answer(handle, queries, Options(**options))


def answer(handle: CollectionHandle | View, queries: Sequence[str | Query], options: Options) -> list[list[Hit]]:
    """As `search`."""
    started = time.time_ns()
    try:
        return current(handle, partial(_answer, queries, options))
    except Exception as error:
        tell_failure(handle.registry, handle.name, "search", error, started)
        raise


def _answer(queries: Sequence[str | Query], options: Options, view: View) -> list[list[Hit]]:
    asked = Asked.of(view, queries, options)
    gathered = len(asked.texts) == 1 and not has_deadline()  # a deadline holds for this thread only
    hits = told(asked, gathering(asked).now(asked) if gathered else found_together([asked])[0])
    if asked.chosen is not None and not any(hits):
        warn_of_missing_keys(view, asked.chosen, tenant=asked.tenant)
    return hits


async def answer_later(handle: CollectionHandle, query: str | Query, options: Options) -> list[Hit]:
    """As `search` for one query, without blocking the event loop or a thread."""
    started = time.time_ns()
    # Only an existing collection is searched here: checking whether another process has created it blocks.
    if handle.exists:
        try:
            asked = Asked.of(handle.now(), [query], options)
            found = await asyncio.wrap_future(gathering(asked).later(asked))
        except SearchError:
            pass  # the slots may have changed; `answer` reads the metadata again
        except Exception as error:
            await asyncio.to_thread(tell_failure, handle.registry, handle.name, "search", error, started)
            raise
        else:
            # Rerankers and plugins may block for long, so they get a thread; the rest is too short to be worth one.
            if not asked.pipeline.rerank and not handle.registry.listening("diptych_after_search"):
                hits = told(asked, found)
            else:
                work = partial(watched, handle.registry, handle.name, "search", partial(told, asked, found))
                hits = await asyncio.to_thread(work)
            if asked.chosen is not None and not any(hits):
                await asyncio.to_thread(warn_of_missing_keys, asked.handle, asked.chosen, tenant=asked.tenant)
            return hits[0]
    return (await asyncio.to_thread(answer, handle, [query], options))[0]


def current(handle: CollectionHandle | View, answer: Callable[[View], T]) -> T:
    """The answer of the current view; repeated if it failed and the slots have changed, since vectors may be gone."""
    while True:
        view = handle.now()
        try:
            return answer(view)
        except SearchError:
            handle.catch_up()
            if handle.slots is view.slots:  # else another query has already renewed the view
                raise


def gathering(asked: Asked) -> Gathering[Asked, Found]:
    """Return what joins single queries to these slots; one per set of slots, so a stuck encoder delays no others."""
    kept, key = asked.handle.kept, " ".join(["gathering", *sorted(asked.pipeline.slots)])
    found: Gathering[Asked, Found] | None = kept.get(key)
    # `setdefault` is atomic: two threads that both found nothing get the same object.
    return found or kept.setdefault(key, Gathering(found_together))


def told(asked: Asked, found: Found) -> list[list[Hit]]:
    """Finish the hits and notify plugins."""
    hits = finished(asked, found)
    tell(asked, found.seconds, found.began, sum(map(len, hits)))
    return hits


def finished(asked: Asked, found: Found) -> list[list[Hit]]:
    """The retrieved hits, reranked and cut."""
    hits = found.hits
    if asked.pipeline.rerank:
        clock, wants = found.clock(), asked.wants or asked.end
        ranked = rerank(asked.handle, asked.pipeline.rerank, asked.texts, hits, wants=wants, unscored=found.unscored)
        hits = [own[asked.offset : asked.end] for own in ranked]
        clock.passed("rerank")
    return [_finish(asked, own) for own in hits]


def tell(asked: Asked, seconds: dict[str, float], began: float, hits: int) -> None:
    """Notify plugins of the search; a plugin that fails is a PluginWarning, and the hits stand.

    Args:
        began: start of the first stage, by `time.perf_counter`.
        hits: number of hits.
    """
    if asked.handle.registry.listening("diptych_after_search"):
        report = _report(asked, seconds, began, hits)
        for failure in asked.handle.registry.tell("diptych_after_search", report):
            warnings.warn(failure, PluginWarning, stacklevel=3)


def _report(asked: Asked, seconds: dict[str, float], began: float, hits: int) -> SearchReport:
    ended, now = time.time_ns(), time.perf_counter()

    def clock(at: float) -> int:
        return ended - round((now - at) * 1e9)

    times, last = {}, began
    for stage, taken in seconds.items():
        begin = now - taken if stage == "rerank" else last  # reranking waits until the calling thread continues
        last = begin + taken
        times[stage] = (clock(begin), clock(last))
    return SearchReport(
        asked.handle.name,
        repr(asked.pipeline),
        len(asked.texts),
        seconds,
        started=clock(asked.at),
        ended=ended,
        times=times,
        slots=asked.pipeline.slots,
        hits=hits,
        texts=tuple(asked.texts),
        tenant=asked.tenant,
    )


def _finish(asked: Asked, hits: list[Hit]) -> list[Hit]:
    """The hits without those below the threshold, and without text that was fetched only for the reranker."""
    threshold = asked.score_threshold
    if threshold is not None:
        hits = [hit for hit in hits if hit.score >= threshold]
    if asked.with_payload is not True and (asked.pipeline.rerank or asked.handle.layout != NATIVE):
        hits = [replace(hit, document=_without_unasked(hit.document, asked)) for hit in hits]
    return hits


def _without_unasked(document: Document, asked: Asked) -> Document:
    wanted, metadata = asked.wanted, document.metadata
    if asked.handle.layout != NATIVE:
        named = {head(key) for key in wanted}
        metadata = {key: value for key, value in metadata.items() if key in named}
    text = document.text if "text" in wanted else ""
    return replace(document, text=text, title=document.title if "title" in wanted else "", metadata=metadata)
