"""`search`: a batch of queries through a pipeline."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from diptych.errors import PluginWarning, SearchError
from diptych.handle import CollectionHandle
from diptych.payloads import NATIVE
from diptych.payloads.paths import head
from diptych.reports import SearchReport
from diptych.search.asked import Asked
from diptych.search.inputs import encode_inputs
from diptych.search.pipeline import Pipeline, Retrieve
from diptych.search.reranking import rerank
from diptych.search.retrieval import retrieve
from diptych.types import Document, Hit, Query
from diptych.view import View

if TYPE_CHECKING:
    from qdrant_client import models

T = TypeVar("T")


def search(
    handle: CollectionHandle | View,
    queries: Sequence[str | Query],
    *,
    pipeline: Pipeline | Retrieve | None = None,
    limit: int | None = None,
    offset: int = 0,
    filter: models.Filter | None = None,
    score_threshold: float | None = None,
    params: models.SearchParams | None = None,
    with_payload: bool | Sequence[str] = True,
) -> list[list[Hit]]:
    """For each query its hits, best first: all queries are encoded, retrieved and reranked together.

    Args:
        handle: an open collection.
        queries: n texts or `Query`.
        pipeline: stages instead of the config's.
        limit, offset: hits a query returns, after how many it skips; the config's limit unless given.
        filter: which points count, in every slot.
        score_threshold: hits whose final score is lower are dropped.
        params: Qdrant's search parameters instead of the pipeline's, for every slot.
        with_payload: False fetches ids alone; a list of keys only these: "text", "title" and metadata.

    Raises:
        SearchError: something that cannot be searched as asked.
        CollectionNotFound: nothing has been populated yet.
        FingerprintMismatch: the config's encoders did not make the collection's vectors.
        ContractError: an encoder or reranker breaks its contract.
    """

    def answer() -> list[list[Hit]]:
        asked = Asked.of(
            handle,
            queries,
            pipeline=pipeline,
            limit=limit,
            offset=offset,
            filter=filter,
            score_threshold=score_threshold,
            params=params,
            with_payload=with_payload,
        )
        seconds: dict[str, float] = {}
        hits = find(asked, seconds)
        tell(asked, seconds)
        return hits

    return current(handle, answer)


def current(handle: CollectionHandle | View, answer: Callable[[], T]) -> T:
    """`answer()`, and again when it failed and the slots are others now: the vectors it knew are gone."""
    while True:
        slots = handle.slots  # before, since a look that another query began may exchange them at any moment
        try:
            return answer()
        except SearchError:
            handle.catch_up()
            if handle.slots is slots:
                raise


def find(asked: Asked, seconds: dict[str, float]) -> list[list[Hit]]:
    """The hits of what is asked; `seconds` is told how long each stage took."""
    cascade, clock = asked.pipeline.rerank, Clock(seconds)
    inputs = encode_inputs([asked.handle.slots[name] for name in asked.pipeline.slots], asked.texts)
    clock.passed("encode")
    limit, offset = (cascade[0].candidates, 0) if cascade else (asked.limit, asked.offset)
    found = retrieve(asked, inputs, limit=limit, offset=offset)
    clock.passed("retrieve")
    if cascade:
        found = [hits[asked.offset : asked.end] for hits in rerank(asked.handle, cascade, asked.texts, found)]
        clock.passed("rerank")
    return [_finish(asked, hits) for hits in found]


def tell(asked: Asked, seconds: dict[str, float]) -> None:
    """Tell the plugins what was asked and how long it took; one that fails is a PluginWarning, the hits stand."""
    registry = asked.handle.registry
    if registry.hook.diptych_after_search.get_hookimpls():
        report = SearchReport(asked.handle.name, repr(asked.pipeline), len(asked.texts), seconds)
        for failure in registry.tell("diptych_after_search", report):
            warnings.warn(failure, PluginWarning, stacklevel=3)


class Clock:
    """Notes how long each stage took."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._last = seconds, time.perf_counter()

    def passed(self, stage: str) -> None:
        """The stage ends now."""
        now = time.perf_counter()
        self._seconds[stage], self._last = now - self._last, now


def _finish(asked: Asked, hits: list[Hit]) -> list[Hit]:
    """Without hits below the threshold, and without text that only the reranker asked for or that came along."""
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
