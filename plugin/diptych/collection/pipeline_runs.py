"""The pipelines that an evaluation asks: each slot alone, fusions and later stages of one or several collections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from qdrant_client import models

from diptych.collection.collection import Collection
from diptych.collection.documents import held
from diptych.errors import SearchError
from diptych.evaluate import Qrels
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.runtime.validation_messages import nearest
from diptych.search import Dbsf, Fusion, Linear, Pipeline, Rrf
from diptych.search.options import answerable
from diptych.search.pipeline import parts
from diptych.types import Query

FUSIONS: dict[str, Fusion] = {"rrf": Rrf(), "dbsf": Dbsf(), "linear": Linear()}
T = TypeVar("T")
LOOKED_FOR = 1000  # relevant documents that the collection is asked for


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
