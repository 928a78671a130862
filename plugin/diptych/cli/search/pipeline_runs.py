"""What each slot and each stage of a pipeline is worth: the runs that `diptych evaluate` compares.

Imports the Qdrant client, so commands import it only when they run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

from qdrant_client import models

from diptych.cli.ui.session import Session
from diptych.collection.collection import Collection
from diptych.errors import SearchError
from diptych.evaluate import ann_recall
from diptych.handle.collection_handle import CollectionHandle
from diptych.search import Dbsf, Fusion, Linear, Pipeline, Rrf
from diptych.search.pipeline import parts
from diptych.stores import open_store_of
from diptych.types import Query, Run
from qdrant_edge_client.validation_messages import nearest

FUSIONS: dict[str, Fusion] = {"rrf": Rrf(), "dbsf": Dbsf(), "linear": Linear()}
T = TypeVar("T")
BATCH = 64  # queries searched together, and between two movements of the progress bar


@dataclass(frozen=True, slots=True)
class Searched:
    """A pipeline and the collection that it searches."""

    collection: Collection
    pipeline: Pipeline


@contextmanager
def opened(session: Session, configs: Sequence[Path]) -> Iterator[list[Collection]]:
    """Open the collections of these config files: each store once, and each model loaded once.

    Raises:
        ConfigError, StoreError, CollectionError: see diptych.collection.collection.
    """
    if len(configs) == 1:
        with session.collection(configs[0], None, None) as collection:
            yield [collection]
        return
    registry, clients, collections = session.registry.sharing(), {}, []
    with ExitStack() as stack:
        for path in configs:
            config = session.config(path)
            place = repr((config.urls, config.api_key and config.api_key.get_secret_value()))
            if place not in clients:
                client = open_store_of(config, registry=registry, create=False)
                clients[place] = stack.enter_context(closing(client))
            handle = CollectionHandle(clients[place], config.collection, config, registry)
            collections.append(stack.enter_context(Collection(handle)))
        yield collections


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
            if not any(_same(own, collection, pipeline) for own in found.values()):
                found[f"{label}: {name}" if len(collections) > 1 else name] = Searched(collection, pipeline)
    return found


def labels(configs: Sequence[Path]) -> list[str]:
    """A short name for each config file: its file name, with its folder if two files have the same name."""
    stems = [path.stem for path in configs]
    return [f"{p.absolute().parent.name}/{p.stem}" if stems.count(p.stem) > 1 else p.stem for p in configs]


def _same(known: Searched, collection: Collection, pipeline: Pipeline) -> bool:
    ours, theirs = known.collection.handle, collection.handle
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
