"""`ask` puts queries to a collection, `times` takes the time of calls: the one asker and the one stopwatch.

The gate, the tuner, the judge, Studio and `diptych evaluate` all measure by these two. `pipelines_of` lists what an
evaluation asks: each slot alone, fusions and later stages of one or several collections.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from diptych.errors import SearchError
from diptych.evaluate.comparison import LANGUAGE, LENGTH
from diptych.evaluate.qrels import Qrels
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.view import View, whole
from diptych.runtime.validation_messages import nearest
from diptych.search import Dbsf, Fusion, Linear, Pipeline, Rerank, Rrf, SearchOptions, search
from diptych.search.pipeline import parts
from diptych.search.store_calls import records_of
from diptych.slots.slot import answerable
from diptych.types import Hit, Query

PAGE = 256

TIED = 50  # hits beyond the depth among which ties with the last are looked for
BATCH = 64  # queries that are encoded and searched together
FUSIONS: dict[str, Fusion] = {"rrf": Rrf(), "dbsf": Dbsf(), "linear": Linear()}
LOOKED_FOR = 1000  # relevant documents that the collection is asked for
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
    with_ties: bool = False,
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
        with_ties: also the next hits that score the same as the last, 50 at most: a metric orders ties by their ids, so
            it needs all of them. Rerankers may read as many candidates as hits are wanted, and get no more.
        advance: called after each batch with its number of queries; what it raises ends the asking.
    """
    scattered, view = every_tenant and view.now().tenancy is not None, whole(view.now()) if every_tenant else view
    served = pipeline or Pipeline.from_config(view.search_config, view.slots)
    unread = pipeline and replace(pipeline, rerank=())  # the served one leaves its rerankers out by itself
    hits: list[Sequence[Hit]] = [()] * len(queries)
    limit = depth + TIED if with_ties and not served.rerank else depth
    places = answerable(served.slots, view.slots, queries) or [*range(len(queries))]
    if advance and len(places) < len(queries):
        advance(len(queries) - len(places))
    for stages, group in (
        (pipeline, [place for place in places if not served.rerank or queries[place].text.strip()]),
        (unread, [place for place in places if served.rerank and not queries[place].text.strip()]),
    ):
        options: SearchOptions = {
            "pipeline": stages,
            "limit": min(limit, served.depth or limit),
            "filter": filter,
            "tenant": tenant,
            "with_payload": with_payload,
        }
        for begin in range(0, len(group), BATCH):
            batch = group[begin : begin + BATCH]
            asked = [queries[place] for place in batch]
            found = search(view, asked, **options)
            for place, own in zip(batch, found, strict=True):
                ranked = [*{hit.id: hit for hit in reversed(own)}.values()][::-1] if scattered else own
                tied = [hit for hit in ranked[depth:] if hit.score == ranked[depth - 1].score]
                hits[place] = [*ranked[:depth], *tied]
            if advance:
                advance(len(batch))
    return hits


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


def milliseconds(
    sides: Sequence[Searched],
    queries: Sequence[Query],
    *,
    limit: int,
    tenant: str | None = None,
    advance: Callable[[int], None] | None = None,
) -> list[float]:
    """The median time of a query on each side, encoding included; empty without queries."""
    fresh = [Searched(side.view.now().unremembered(), side.pipeline) for side in sides]

    def ask_side(side: Searched, query: Query) -> None:
        ask(side.view, [query], pipeline=side.pipeline, depth=limit, tenant=tenant)

    found = times(ask_side, fresh, queries, advance=advance)
    return np.median(found, axis=1).tolist() if queries else []


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
    metadata = held_documents(view, list(dict.fromkeys(best.values())))
    return {
        key: {q: str(value) for q, name in best.items() if (value := metadata.get(name, {}).get(key)) is not None}
        for key in keys
    }


def held_documents(view: View, ids: Sequence[str], tenant: str | None = None) -> dict[str, Mapping[str, Any]]:
    """The metadata of the documents that the collection has, by id: of the tenant, or whosever they are.

    Raises:
        TenantError, SearchError, StoreError: the tenant cannot be one, or the store cannot answer.
    """
    found, asked = dict[str, Mapping[str, Any]](), whole(view) if tenant is None else view
    for start in range(0, len(ids), PAGE):
        records = records_of(asked, ids[start : start + PAGE], tenant, payload=view.metadata_fields)
        documents = (view.layout.read(record.id, record.payload) for record in records)
        found |= {document.id: document.metadata for document in documents}
    return found


def absent_documents(view: CollectionHandle | View, qrels: Qrels, tenant: str | None = None) -> str:
    """How many relevant documents no search can find, because the collection lacks them; "" if it has all."""
    relevant = {document for grades in qrels.judgements.values() for document, grade in grades.items() if grade > 0}
    asked = sorted(relevant)[:LOOKED_FOR]
    present = held_documents(view.now(), asked, tenant)
    absent = [identifier for identifier in asked if identifier not in present]
    if not absent:
        return ""
    names = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
    return (
        f"{len(absent):,} of {len(asked):,} relevant documents are not in collection {view.name!r} ({names}), so "
        "no search finds them: fill it whole, or judge what it holds"
    )


@dataclass(frozen=True, slots=True)
class Searched:
    """A pipeline and the open collection, or the view of one, that it searches.

    `before` is the pipeline without the last stage that its config names; before a fusion is each slot alone.
    """

    view: CollectionHandle | View
    pipeline: Pipeline
    before: tuple[Pipeline, ...] = ()


def pipelines_of(handles: Mapping[str, CollectionHandle], fusions: Sequence[str] = ()) -> dict[str, Searched]:
    """Each slot alone, their fusion, other fusions of them, and each later stage, of each collection.

    A pipeline that two configs share over the same collection is listed once, under the first config's name.

    Args:
        handles: by the name that begins the names of their pipelines, where there are several.
        fusions: names of other fusions.

    Raises:
        SearchError: there is no such fusion.
    """
    for name in fusions:
        if name not in FUSIONS:
            raise SearchError(f"there is no fusion {name!r}", expected=", ".join(FUSIONS), do=nearest(name, FUSIONS))
    found: dict[str, Searched] = {}
    known = list[tuple[object, str, Pipeline]]()
    for label, handle in handles.items():
        served = Pipeline.from_config(handle.search_config, handle.slots)
        own, legs = parts(served), len(served.retrieve)
        listed = [*own.values()]
        before = dict(zip([*own][legs:], [tuple(listed[:legs]), *((stage,) for stage in listed[legs:])], strict=False))
        if legs > 1:
            own |= {name: Pipeline(served.retrieve) >> FUSIONS[name] for name in fusions}
        for name, pipeline in own.items():
            if (of := (handle.client, handle.name, pipeline)) not in known:
                known.append(of)
                full = f"{label}: {name}" if len(handles) > 1 else name
                found[full] = Searched(handle, pipeline, before.get(name, ()))
    return found


def runs_before(pipelines: Mapping[str, Searched]) -> dict[str, list[str]]:
    """By the name of each pipeline of which all pipelines `before` are there, the names of those."""
    found = {
        name: [
            n
            for n, other in pipelines.items()
            if (other.view.client, other.view.name) == (own.view.client, own.view.name) and other.pipeline in own.before
        ]
        for name, own in pipelines.items()
    }
    return {name: names for name, names in found.items() if names and len(names) == len(pipelines[name].before)}


def without_stage(pipeline: Pipeline, before: Pipeline) -> str:
    """What to do to search without the pipeline's last stage, by the one `before`."""
    last, slots = pipeline.stages[-1], ", ".join(f"{branch.slot}: {branch.candidates}" for branch in before.retrieve)
    if last is pipeline.fuse:
        found = f"search: {{retrieve: {{{slots}}}}}, or let diptych tune search find weights"
        return f"search by {before.slots[0]} alone, {found}"
    if last is pipeline.rescore:  # its slot is retrieved from, too, unless `retrieve` names the others
        return f"leave it out, search: {{rescore: null, retrieve: {{{slots}}}}}"
    if isinstance(last, Rerank):
        return f"take {last.label} out of search.rerank"
    return f"leave it out, search: {{{'boost: []' if last is pipeline.boost else 'diversify: null'}}}"


def choose(pipelines: Mapping[str, T], wanted: Sequence[str]) -> dict[str, T]:
    """The pipelines of these names, all when none is named.

    Raises:
        SearchError: no pipeline has such a name.
    """
    for name in wanted:
        if name not in pipelines:
            expected = ", ".join(repr(known) for known in pipelines)
            by_config = [repr(known) for known in pipelines if known.endswith(f": {name}")]
            do = f"name its config, too: {' or '.join(by_config)}" if by_config else nearest(name, pipelines)
            raise SearchError(f"there is no run {name!r}", expected=expected, do=do)
    return {name: pipelines[name] for name in wanted or pipelines}


def answering(pipelines: Mapping[str, Searched], queries: Sequence[Query]) -> dict[str, Searched]:
    """The pipelines that search with some of the queries; all of them if none does."""
    found = {
        name: own
        for name, own in pipelines.items()
        if not queries or answerable(own.pipeline.slots, own.view.slots, queries)
    }
    return found or dict(pipelines)


def exact(pipeline: Pipeline) -> Pipeline:
    """The same pipeline, scanning every vector instead of using a graph."""
    given = [branch.params or models.SearchParams() for branch in pipeline.retrieve]
    params = [own.model_copy(update={"exact": True}) for own in given]
    branches = (replace(branch, params=own) for branch, own in zip(pipeline.retrieve, params, strict=True))
    return replace(pipeline, retrieve=tuple(branches))
