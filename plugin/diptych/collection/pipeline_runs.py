"""The runs of an evaluation: the answers of pipelines, of their slots and of their stages to judged queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from qdrant_client import models

from diptych.collection.collection import Collection
from diptych.collection.documents import held
from diptych.errors import SearchError
from diptych.evaluate import Qrels, ann_recall
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.runtime.validation_messages import nearest
from diptych.search import Dbsf, Fusion, Linear, Pipeline, Rrf, search
from diptych.search.media_queries import answerable
from diptych.search.options import SearchOptions
from diptych.search.pipeline import parts
from diptych.types import Hit, Query, Run

FUSIONS: dict[str, Fusion] = {"rrf": Rrf(), "dbsf": Dbsf(), "linear": Linear()}
T = TypeVar("T")
LOOKED_FOR = 1000  # relevant documents that the collection is asked for
BATCH = 64  # queries searched together, and between two movements of the progress bar


@dataclass(frozen=True, slots=True)
class Searched:
    """A pipeline and the open collection, or the view of one, that it searches."""

    view: CollectionHandle | View
    pipeline: Pipeline


def pipelines_of(collections: Mapping[str, Collection], fusions: Sequence[str] = ()) -> dict[str, Searched]:
    """Each slot alone, their fusion, other fusions of them, and each later stage, of each collection.

    Args:
        collections: by the name that begins the names of their pipelines, where there are several.
        fusions: names of other fusions.

    A pipeline that two configs share over the same collection is listed once, under the first config's name.
    """
    found: dict[str, Searched] = {}
    for label, collection in collections.items():
        whole = Pipeline.from_config(collection.handle.search_config, collection.handle.slots)
        for name, pipeline in {**parts(whole), **fused_by(whole, fusions)}.items():
            if not any(_same(other, collection, pipeline) for other in found.values()):
                found[f"{label}: {name}" if len(collections) > 1 else name] = Searched(collection.handle, pipeline)
    return found


def _same(known: Searched, collection: Collection, pipeline: Pipeline) -> bool:
    ours, theirs = known.view, collection.handle
    return (ours.client, ours.name, known.pipeline) == (theirs.client, theirs.name, pipeline)


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


def fused_by(pipeline: Pipeline, fusions: Sequence[str]) -> dict[str, Pipeline]:
    """What the pipeline retrieves, fused by each of these instead; nothing where it retrieves from one slot.

    Raises:
        SearchError: there is no such fusion.
    """
    for name in fusions:
        if name not in FUSIONS:
            raise SearchError(f"there is no fusion {name!r}", expected=", ".join(FUSIONS), do=nearest(name, FUSIONS))
    retrieved = Pipeline(pipeline.retrieve)
    return {name: retrieved >> FUSIONS[name] for name in fusions if len(pipeline.retrieve) > 1}


def run_queries(
    handle: CollectionHandle | View,
    name: str,
    pipeline: Pipeline | None,
    queries: Sequence[Query],
    *,
    depth: int,
    advance: Callable[[int], None],
    tenant: str | None = None,
) -> Run:
    """The answers of a pipeline to the queries, as deep as `depth` or as the pipeline goes.

    Args:
        handle: what is searched: an open collection, or a view of it, such as that of another generation.
        name: of the run.
        pipeline: the stages; None for the one that is served, with its pins, boosts and threshold.
        queries: each with its id. Those of which no slot takes the text or the media have no hits, unless this is so
            for all, which is an error; those without a text are not reranked.
        depth: hits of each query.
        advance: called after each batch with its number of queries; what it raises ends the run.
        tenant: whose documents are searched, in collections with tenants.
    """
    served = pipeline or Pipeline.from_config(handle.search_config, handle.slots)
    limit = min(depth, served.depth or depth)
    unread = pipeline and replace(pipeline, rerank=())  # the served one leaves its rerankers out by itself
    found: list[Sequence[Hit]] = [()] * len(queries)
    places = answerable(served.slots, handle.slots, queries) or [*range(len(queries))]
    if len(places) < len(queries):
        advance(len(queries) - len(places))
    for stages, group in (
        (pipeline, [place for place in places if queries[place].text.strip()]),
        (unread, [place for place in places if not queries[place].text.strip()]),
    ):
        options: SearchOptions = {"pipeline": stages, "limit": limit, "with_payload": False, "tenant": tenant}
        for begin in range(0, len(group), BATCH):
            batch = group[begin : begin + BATCH]
            hits = search(handle, [queries[place] for place in batch], **options)
            for place, own in zip(batch, hits, strict=True):
                found[place] = own
            advance(len(batch))
    return Run.from_hits(name, queries, found)


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
    branches = tuple(replace(branch, params=_exact(branch.params)) for branch in pipeline.retrieve)
    return replace(pipeline, retrieve=branches)


def _exact(params: models.SearchParams | None) -> models.SearchParams:
    return (params or models.SearchParams()).model_copy(update={"exact": True})


def recall_of(approximate: Run, truth: Run, *, k: int) -> float:
    """The share of the exact first `k` that the approximate search found, from 0 to 1."""
    return ann_recall(approximate, truth, k)


def absent_documents(collection: Collection, qrels: Qrels, tenant: str | None = None) -> str:
    """How many relevant documents no search can find, because the collection lacks them; "" if it has all."""
    relevant = {document for grades in qrels.judgements.values() for document, grade in grades.items() if grade > 0}
    asked = sorted(relevant)[:LOOKED_FOR]
    present = held(collection.handle.now(), asked, tenant)
    absent = [identifier for identifier in asked if identifier not in present]
    if not absent:
        return ""
    names = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
    return (
        f"{len(absent):,} of {len(asked):,} relevant documents are not in collection {collection.name!r} ({names}), so "
        "no search finds them: fill it whole, or judge what it holds"
    )
