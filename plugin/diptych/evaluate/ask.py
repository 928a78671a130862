"""`ask` puts queries to a collection, `times` takes the time of calls: the one asker and the one stopwatch.

The gate, the tuner, the judge, Studio and `diptych evaluate` all measure by these two.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from diptych.evaluate.comparison import LANGUAGE, LENGTH
from diptych.evaluate.qrels import Qrels
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.handle.tenancy import whole
from diptych.search import Pipeline, SearchOptions, search
from diptych.search.options import answerable
from diptych.types import Hit, Query

PAGE = 256

BATCH = 64  # queries that are encoded and searched together
S = TypeVar("S")
T = TypeVar("T")


def ask(
    view: CollectionHandle | View,
    queries: Sequence[Query],
    *,
    depth: int,
    pipeline: Pipeline | None = None,
    filter: models.Filter | None = None,
    tenant: str | None = None,
    every_tenant: bool = False,
    with_payload: bool | list[str] = False,
    advance: Callable[[int], None] | None = None,
) -> list[Sequence[Hit]]:
    """The hits of each query, best first; `Run.from_hits` makes a run of them.

    Args:
        view: what is searched: an open collection, or a view of it, such as that of another generation.
        queries: those of which no slot takes the text or the media have no hits, unless this is so for all, which is an
            error; those without a text are not reranked.
        depth: hits of each query at most; the pipeline may pass on fewer.
        pipeline: the stages; None for the one that is served, with its pins, boosts and threshold.
        filter: of the documents.
        tenant: whose documents are searched, in collections with tenants.
        every_tenant: search the documents of all tenants together; of several with one id the best counts.
        with_payload: whether hits carry their documents, or which keys of them.
        advance: called after each batch with its number of queries; what it raises ends the asking.
    """
    scattered, view = every_tenant and view.now().tenancy is not None, whole(view.now()) if every_tenant else view
    served = pipeline or Pipeline.from_config(view.search_config, view.slots)
    unread = pipeline and replace(pipeline, rerank=())  # the served one leaves its rerankers out by itself
    hits: list[Sequence[Hit]] = [()] * len(queries)
    places = answerable(served.slots, view.slots, queries) or [*range(len(queries))]
    if advance and len(places) < len(queries):
        advance(len(queries) - len(places))
    for stages, group in (
        (pipeline, [place for place in places if not served.rerank or queries[place].text.strip()]),
        (unread, [place for place in places if served.rerank and not queries[place].text.strip()]),
    ):
        options: SearchOptions = {
            "pipeline": stages,
            "limit": min(depth, served.depth or depth),
            "filter": filter,
            "tenant": tenant,
            "with_payload": with_payload,
        }
        for begin in range(0, len(group), BATCH):
            batch = group[begin : begin + BATCH]
            asked = [queries[place] for place in batch]
            found = search(view, asked, **options)
            for place, own in zip(batch, found, strict=True):
                hits[place] = _once(own) if scattered else own
            if advance:
                advance(len(batch))
    return hits


def _once(hits: Sequence[Hit]) -> list[Hit]:
    by_id: dict[str, Hit] = {}
    for hit in hits:
        by_id.setdefault(hit.id, hit)
    return list(by_id.values())


def times(
    call: Callable[[S, T], object],
    sides: Sequence[S],
    items: Sequence[T],
    *,
    rounds: int = 1,
    warm_up: int = 1,
    advance: Callable[[int], None] | None = None,
) -> NDArray[np.float64]:
    """The milliseconds of `call(side, item)` for each side and item, `[sides, rounds * items]`.

    An item goes to all sides before the next one does, in an order that is drawn anew: a busy moment touches all alike,
    and none is always the one that comes after another. For a search, a side is a `view.unremembered()`.

    Args:
        call: what is timed.
        sides: what is compared.
        items: what each is called with, `rounds` times.
        warm_up: items from the first on that go to all sides before, without being counted.
        advance: called after each item that counts.
    """
    random, asked = np.random.default_rng(0), [*items[:warm_up], *[*items] * rounds]
    seconds = np.zeros((len(sides), len(asked)))
    for number, item in enumerate(asked):
        for place in random.permutation(len(sides)):
            begin = time.perf_counter()
            call(sides[place], item)
            seconds[place, number] = time.perf_counter() - begin
        if advance and number >= len(items[:warm_up]):
            advance(1)
    return 1000 * seconds[:, len(items[:warm_up]) :]


def fields_of_queries(view: View, by: Sequence[str], qrels: Qrels) -> dict[str, dict[str, str]]:
    """For each metadata key of `by`, what the most relevant document of each query says, by query id."""
    keys = [key for key in by if key not in (LENGTH, LANGUAGE)]
    if not keys:
        return {}
    best = {
        query: max(grades, key=lambda name: (grades[name], name))
        for query, grades in qrels.judgements.items()
        if grades
    }
    metadata = dict(_metadata(view, list(dict.fromkeys(best.values()))))
    return {
        key: {q: str(value) for q, name in best.items() if (value := metadata.get(name, {}).get(key)) is not None}
        for key in keys
    }


def held_documents(view: View, ids: Sequence[str]) -> set[str]:
    """Those of the documents that the collection has, whatever the tenant."""
    return {document for document, _ in _metadata(view, ids)}


def _metadata(view: View, ids: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for start in range(0, len(ids), PAGE):
        part = ids[start : start + PAGE]
        records, _ = view.client.scroll(view.name, view.layout.id_filter(part), limit=len(part), with_payload=True)
        for record in records:
            document = view.layout.read(record.id, record.payload)
            yield document.id, document.metadata
