"""Pinned documents: the first hits of any query, if they exist and match tenant and filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qdrant_client import models

from diptych.handle.tenancy import narrowed, with_ids
from diptych.metadata.payloads import from_payload
from diptych.search.qdrant.store_calls import read_store
from diptych.search.request import SearchRequest
from diptych.types import Hit

PINNED = "pinned"  # key of `Hit.stages` that holds a pinned document's place, from 1


def pinned_hits(request: SearchRequest) -> list[Hit]:
    """The pinned documents that exist and match tenant and filter, in the order of their pins, without scores."""
    view = request.view
    with_pinned_ids = models.Filter(must=[with_ids(view, request.pin, request.tenant)])
    matching = narrowed(request.scope, narrowed(request.chosen, with_pinned_ids))
    shard_key = request.shard_key_selector
    limit = 2 * len(request.pin)  # an id may also be that of a point of another program
    records, _ = read_store(
        view, lambda: view.client.scroll(view.name, matching, limit=limit, with_payload=request.selector, **shard_key)
    )
    hits = [Hit(from_payload(r.id, r.payload, view.layout), 0.0, point=r.id) for r in records]
    found = {hit.id: hit for hit in hits}
    return [found[identifier] for identifier in request.pin if identifier in found]


def with_pins(request: SearchRequest, pinned: Sequence[Hit], hits: Sequence[Hit]) -> list[Hit]:
    """The page, pinned documents first. They get the best other hit's score, so that scores never rise down the list.

    Args:
        request: the search.
        pinned: the result of `pinned_hits`.
        hits: the other hits, from `request.begin` on.
    """
    skipped = request.offset - request.begin
    if request.begin > 0:  # the pins are on an earlier page
        first = skipped - len(pinned)
        return list(hits[first : first + request.limit])
    best = max((hit.score for hit in hits), default=0.0)
    placed = [replace(hit, score=best, stages={PINNED: float(n)}) for n, hit in enumerate(pinned, 1)]
    return [*placed, *hits][request.offset : request.end]
