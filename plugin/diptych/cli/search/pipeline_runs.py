"""What each slot and each stage of a pipeline is worth: the runs that `diptych evaluate` compares.

Imports the Qdrant client, so commands import it only when they run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from qdrant_client import models

from diptych.collection.collection import Collection
from diptych.errors import SearchError
from diptych.evaluate import ann_recall
from diptych.search import Dbsf, Fusion, Linear, Pipeline, Rrf
from diptych.types import Query, Run
from qdrant_edge_client.value_errors import nearest

FUSIONS: dict[str, Fusion] = {"rrf": Rrf(), "dbsf": Dbsf(), "linear": Linear()}
BATCH = 64  # queries searched together, and between two movements of the progress bar


def choose(pipelines: Mapping[str, Pipeline], wanted: Sequence[str]) -> dict[str, Pipeline]:
    """The pipelines of these names, all when none is named.

    Raises:
        SearchError: no pipeline has such a name.
    """
    for name in wanted:
        if name not in pipelines:
            expected = ", ".join(repr(known) for known in pipelines)
            raise SearchError(f"there is no run {name!r}", expected=expected, do=nearest(name, pipelines))
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
    collection: Collection,
    name: str,
    pipeline: Pipeline,
    queries: Sequence[Query],
    *,
    depth: int,
    advance: Callable[[int], None],
    tenant: str | None = None,
) -> Run:
    """The answers of `pipeline` to the queries, as deep as `depth` or as the pipeline goes."""
    limit = min(depth, pipeline.depth or depth)
    hits = []
    for begin in range(0, len(queries), BATCH):
        batch = queries[begin : begin + BATCH]
        found = collection.search_batch(batch, pipeline=pipeline, limit=limit, with_payload=False, tenant=tenant)
        hits.append(found)
        advance(len(batch))
    return Run.from_hits(name, queries, chain.from_iterable(hits))


def exact(pipeline: Pipeline) -> Pipeline:
    """The same pipeline, scanning every vector instead of using a graph."""
    branches = tuple(replace(branch, params=_exact(branch.params)) for branch in pipeline.retrieve)
    return replace(pipeline, retrieve=branches)


def _exact(params: models.SearchParams | None) -> models.SearchParams:
    return (params or models.SearchParams()).model_copy(update={"exact": True})


def recall_of(approximate: Run, truth: Run, *, k: int) -> float:
    """The share of the exact first `k` that the approximate search found, from 0 to 1."""
    return ann_recall(approximate, truth, k)
