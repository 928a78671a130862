"""`search_groups`: the best hits of each value of a payload key, such as one per section or per source file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Unpack

from diptych.config.section import require_count
from diptych.display import Display, Displayed
from diptych.errors import SearchError, brief
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.search.filters import warn_of_missing_keys
from diptych.search.fusion import PointId
from diptych.search.options import GroupOptions, check_options
from diptych.search.query import pipeline_request
from diptych.search.request import SearchRequest
from diptych.search.retrieve import PINNED, Clock, hits_from_points, inputs_of, retrieve_together
from diptych.search.run import completed, notify_plugins, on_current_view, one_question, reranked, selected
from diptych.search.store_calls import read_store
from diptych.types import Hit, Passage, Query, heading, hits_table

_STARTS = ("start_index", "split_idx_start")  # where frameworks' splitters note the place of a chunk


@dataclass(frozen=True, slots=True)
class HitGroup:
    """The best hits that share a value, best first; the first hit's score is the group's."""

    value: str | int
    hits: tuple[Hit, ...]

    @property
    def score(self) -> float:
        """Score of the best hit."""
        return self.hits[0].score

    @property
    def hit(self) -> Hit:
        """The group as one hit, for documents that were split before they were stored and are grouped by their parent.

        Its id is the value, its passages are the texts of the hits, and all else is the best hit's. Places are those in
        the parent where the splitter noted them (LangChain's `start_index`, Haystack's `split_idx_start`), else in the
        chunk.
        """
        best, passages = self.hits[0], list[Passage]()
        for hit in self.hits:
            text, metadata = hit.document.text, hit.document.metadata
            noted = (metadata.get(key) for key in _STARTS)
            start = next((value for value in noted if type(value) is int and value >= 0), 0)
            passages.append(Passage(text, start, start + len(text), hit.score))
        return replace(best, document=replace(best.document, id=str(self.value)), passages=tuple(passages), point=None)


class HitGroups(Displayed, list[HitGroup]):
    """The groups of one query, best first: a list that notebooks show as tables.

    Args:
        groups: best first.
        query: what was asked.
    """

    __slots__ = ("query",)

    def __init__(self, groups: Iterable[HitGroup] = (), *, query: str | Query = "") -> None:
        super().__init__(groups)
        self.query = query

    def display(self) -> Display:
        """The hits of each group."""
        groups = [Display(str(group.value), [hits_table(group.hits)]) for group in self]
        return Display(heading(len(self), "group", self.query), groups)


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
    later stages is grouped from the hits that it passes on, `Pipeline.depth` of them. With pinned documents, one of a
    single slot is grouped from its candidates.

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

    asked = check_options(options, GroupOptions, "search_groups")
    with one_question(handle, len(queries)):
        return on_current_view(
            handle, lambda view: _groups(SearchRequest.of(view, queries, asked), group_by, group_size)
        )


def _groups(request: SearchRequest, group_by: str, group_size: int) -> list[list[HitGroup]]:
    make = _from_hits if request.pipeline.stages or request.pin else _from_qdrant
    seconds: dict[str, float] = {}
    groups = make(request, group_by, group_size, seconds)
    if (threshold := request.score_threshold) is not None:
        for of_query in groups:
            above = [(g, [h for h in g.hits if h.score >= threshold or PINNED in h.stages]) for g in of_query]
            of_query[:] = [HitGroup(group.value, tuple(hits)) for group, hits in above if hits]
    # The groups with the passages of their hits, and with the parts of documents that were asked for.
    pages = completed(request, [[hit for group in of_query for hit in group.hits] for of_query in groups])
    for of_query, page in zip(groups, pages, strict=True):
        whole = (replace(hit, document=selected(hit.document, request)) for hit in page)
        of_query[:] = [replace(group, hits=tuple(islice(whole, len(group.hits)))) for group in of_query]
    if not any(groups):
        warn_of_missing_keys(request.view, request.chosen, tenant=request.tenant, group_by=group_by)
    notify_plugins(request, seconds, request.at, sum(len(group.hits) for of_query in groups for group in of_query))
    return groups


def _from_qdrant(
    request: SearchRequest, group_by: str, group_size: int, seconds: dict[str, float]
) -> list[list[HitGroup]]:
    clock = Clock(seconds)
    (inputs,) = inputs_of([request])
    clock.passed("encode")
    view, found = request.view, list[list[HitGroup]]()
    given: dict[str, Any] = {"group_by": group_by, "limit": request.limit, "group_size": group_size}
    given |= {"with_payload": request.selector, **request.shard_key_selector}
    for of_query in inputs:
        query, groups = pipeline_request(request, of_query, limit=request.limit * group_size), list[HitGroup]()
        if query is not None:
            asked: dict[str, Any] = {"query": query.query, "using": query.using, "prefetch": query.prefetch}
            asked |= {"query_filter": query.filter, "search_params": query.params, **given}
            answer = read_store(view, partial(view.client.query_points_groups, view.name, **asked))
            groups = [HitGroup(group.id, tuple(hits_from_points(request, group.hits))) for group in answer.groups]
        found.append(groups)
    clock.passed("retrieve")
    return found


def _from_hits(
    request: SearchRequest, group_by: str, group_size: int, seconds: dict[str, float]
) -> list[list[HitGroup]]:
    # Groups need every hit that the pipeline passes on; threshold, passages and highlights follow on those shown.
    limit = request.pipeline.depth or request.pipeline.retrieve[0].candidates
    wider = replace(request, limit=limit, with_payload=True, score_threshold=None, passages=0, highlight=False)
    (retrieved,) = retrieve_together([wider])
    pages = reranked(wider, retrieved)
    points = {hit.point: hit for page in pages for hit in page if hit.point is not None}
    view, options = request.view, {"with_payload": [group_by], **request.shard_key_selector}
    payloads: dict[PointId, Mapping[str, Any]]
    if view.layout.is_native or not points:  # else documents may leave a part of the payload out
        payloads = {point: view.layout.write(hit.document, "") for point, hit in points.items()}
    else:
        records = read_store(view, partial(view.client.retrieve, view.name, [*points], **options))
        payloads = {record.id: record.payload or {} for record in records}
    seconds |= retrieved.seconds
    return [_grouped(request, hits, group_by, group_size, payloads) for hits in pages]


def _grouped(
    request: SearchRequest,
    hits: Sequence[Hit],
    group_by: str,
    group_size: int,
    payloads: Mapping[PointId, Mapping[str, Any]],
) -> list[HitGroup]:
    groups: dict[str | int, list[Hit]] = {}
    for hit in hits:  # best first, so the groups come in the order of their best hits
        for value in _values(payloads.get(hit.point, {}) if hit.point is not None else {}, group_by):
            members = groups.setdefault(value, [])
            if len(members) < group_size:
                members.append(hit)
    return [HitGroup(value, tuple(members)) for value, members in list(groups.items())[: request.limit]]


def _values(payload: Mapping[str, Any], path: str) -> list[str | int]:
    """The distinct values under a dotted path; values that are neither text nor integer form no group."""
    node: Any = payload
    for key in path.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    values = node if isinstance(node, list) else [node]
    return list(dict.fromkeys(value for value in values if type(value) in (str, int)))  # a bool is an instance of int
