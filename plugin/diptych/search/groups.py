"""`search_groups`: the best hits of each value of a payload key, such as one per section or per source file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

from diptych.errors import SearchError, brief
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.notify import watched
from diptych.handle.snapshot import View
from diptych.metadata.payloads import to_payload
from diptych.search.options import GroupOptions, Options
from diptych.search.qdrant_query import pipeline_request
from diptych.search.qdrant_retrieval import hits_of
from diptych.search.request import Asked
from diptych.search.retrieve import Clock, found_together, inputs_of
from diptych.search.run import current, finished, tell
from diptych.search.stages import require_count
from diptych.search.store_errors import ask
from diptych.types import Document, Hit, Query

if TYPE_CHECKING:
    from qdrant_client import models


@dataclass(frozen=True, slots=True)
class HitGroup:
    """The best hits that share a value, best first; the first hit's score is the group's."""

    value: str | int
    hits: tuple[Hit, ...]

    @property
    def score(self) -> float:
        """Score of the best hit."""
        return self.hits[0].score


def search_groups(
    handle: CollectionHandle | View,
    queries: Sequence[str | Query],
    *,
    group_by: str,
    group_size: int = 3,
    **options: Unpack[GroupOptions],
) -> list[list[HitGroup]]:
    """For each query the best groups, best first.

    A pipeline of one slot alone is grouped by Qdrant, which searches on until the groups are full. A pipeline with
    later stages is grouped from the hits that it passes on, `Pipeline.depth` of them.

    Args:
        group_by: payload key, dots between nested ones; a list of values puts the hit into each group. Documents
            without the key are in no group.
        group_size: hits a group has at most.
        options: see `GroupOptions`; `limit` counts groups.

    Raises:
        SearchError, CollectionNotFound, FingerprintMismatch, ContractError: as `search`.
    """
    require_count("group_size", group_size, "search_groups")
    if not isinstance(group_by, str) or not group_by:
        raise SearchError("group_by is not a payload key", got=brief(group_by), expected="such as 'section'")

    def once(view: View) -> list[list[HitGroup]]:
        return _groups(Asked.of(view, queries, Options(**options, offset=0)), group_by, group_size)

    return watched(handle.registry, handle.name, "search", lambda: current(handle, once))


def _groups(asked: Asked, group_by: str, group_size: int) -> list[list[HitGroup]]:
    make = _from_hits if asked.pipeline.stages else _from_qdrant
    seconds: dict[str, float] = {}
    groups, threshold = make(asked, group_by, group_size, seconds), asked.score_threshold
    groups = groups if threshold is None else [[*_above(found, threshold)] for found in groups]
    tell(asked, seconds, asked.at, sum(len(group.hits) for found in groups for group in found))
    return groups


def _from_qdrant(asked: Asked, group_by: str, group_size: int, seconds: dict[str, float]) -> list[list[HitGroup]]:
    clock = Clock(seconds)
    (inputs,) = inputs_of([asked])
    clock.passed("encode")
    requests = [pipeline_request(asked, query, limit=asked.limit * group_size) for query in inputs]
    groups = [[] if r is None else _grouped_by_qdrant(asked, r, group_by, group_size) for r in requests]
    clock.passed("retrieve")
    return groups


def _grouped_by_qdrant(asked: Asked, request: models.QueryRequest, group_by: str, group_size: int) -> list[HitGroup]:
    client = asked.handle.client
    found = ask(
        asked.handle,
        lambda: client.query_points_groups(
            asked.handle.name,
            group_by=group_by,
            query=request.query,
            using=request.using,
            prefetch=request.prefetch,
            query_filter=request.filter,
            search_params=request.params,
            limit=asked.limit,
            group_size=group_size,
            with_payload=asked.selector,
            **asked.shard_key_selector,
        ),
    )
    return [HitGroup(group.id, tuple(hits_of(asked, group.hits))) for group in found.groups]


def _from_hits(asked: Asked, group_by: str, group_size: int, seconds: dict[str, float]) -> list[list[HitGroup]]:
    deep = replace(asked, limit=asked.pipeline.depth or asked.limit, with_payload=True, score_threshold=None)
    (found,) = found_together([deep])
    groups = [_grouped(asked, hits, group_by, group_size) for hits in finished(deep, found)]
    seconds |= found.seconds
    return groups


def _grouped(asked: Asked, hits: Sequence[Hit], group_by: str, group_size: int) -> list[HitGroup]:
    groups: dict[str | int, list[Hit]] = {}
    for hit in hits:
        for value in _values(asked, hit.document, group_by):
            found = groups.setdefault(value, [])
            if len(found) < group_size:
                found.append(replace(hit, document=_restricted(hit.document, asked)))
    return [HitGroup(value, tuple(found)) for value, found in list(groups.items())[: asked.limit]]


def _values(asked: Asked, document: Document, path: str) -> list[str | int]:
    """The distinct values under a dotted path; values that are neither text nor integer form no group."""
    found: Any = to_payload(document, "", asked.handle.layout)
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    values = found if isinstance(found, list) else [found]
    return list(dict.fromkeys(value for value in values if type(value) in (str, int)))


def _restricted(document: Document, asked: Asked) -> Document:
    if asked.with_payload is True:
        return document
    wanted = asked.wanted
    return Document(
        document.id,
        document.text if "text" in wanted else "",
        document.title if "title" in wanted else "",
        {key: value for key, value in document.metadata.items() if key in wanted},
    )


def _above(groups: Sequence[HitGroup], threshold: float) -> list[HitGroup]:
    kept = [HitGroup(g.value, tuple(hit for hit in g.hits if hit.score >= threshold)) for g in groups]
    return [group for group in kept if group.hits]
