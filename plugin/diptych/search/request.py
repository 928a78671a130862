"""`SearchRequest`: a checked search request with queries, pipeline, number of hits, filter and payload selection."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from qdrant_client import models

from diptych.config.section import MOST_CANDIDATES
from diptych.config.stages import ORDERED, Recent
from diptych.errors import SearchError, brief
from diptych.handle.view import Memo, View, narrowed, scope_of, without_ids
from diptych.metadata.payloads import MEDIA_FIELDS, quoted
from diptych.runtime.validation_messages import nearest
from diptych.search.filters import combined
from diptych.search.options import SearchOptions, require_queries
from diptych.search.pipeline import Boost, Pipeline, Retrieve, called
from diptych.search.store_calls import read_store
from diptych.slots.slot import Slot
from diptych.stores.versions import TEXT_INDEX, require_version
from diptych.types import Floats, Query

MOST_HITS = MOST_CANDIDATES  # that a query can ask for


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """One batch of queries with everything that decides its answer.

    `wants`: hits that an early exit must settle; by default offset + limit.
    `filter` is `chosen` (the caller's) and `scope` (the tenant's) together, without what `pin` and `exclude` name.
    `shard_key`: the field of Qdrant's requests that names the tenant's shards; empty without shard keys.
    `pin`: ids of documents that come first, including the newest ones of `recent`. `exclude`: ids that are left out.
    `like`, `unlike`: examples of relevant documents, and of others that are not.
    `passages`: the most passages of a hit; 0 where no slot of the pipeline has any.
    `highlight`: whether hits say which sentence and which words answer.
    `vector`: the query's, `[1, dimension]`, in a search by vector of a slot with a vector for each passage.
    `queries`: with their media read.
    `at`: time of the request by `time.perf_counter`; `now`: the same as a date, for boosts by recency.
    """

    view: View
    pipeline: Pipeline
    queries: Sequence[Query]
    limit: int
    offset: int = 0
    filter: models.Filter | None = None
    score_threshold: float | None = None
    params: models.SearchParams | None = None
    with_payload: bool | Sequence[str] = True
    wants: int | None = None
    tenant: str | None = None
    scope: models.Filter | None = None
    shard_key: Mapping[str, Any] = field(default_factory=dict)
    chosen: models.Filter | None = None
    pin: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    like: tuple[str | Query, ...] = ()
    unlike: tuple[str | Query, ...] = ()
    passages: int = 0
    highlight: bool = False
    vector: Floats | None = None
    at: float = field(default_factory=time.perf_counter)
    now: datetime = field(default_factory=partial(datetime.now, UTC))

    @classmethod
    def of(cls, view: View, queries: Sequence[str | Query], options: SearchOptions) -> SearchRequest:
        """A request, completed with the config's pipeline, limit and threshold; the options are checked before.

        Raises:
            SearchError: queries or the options cannot be used.
            TenantError: no tenant where the collection requires one, or one where it has none.
            CollectionNotFound: nothing has been populated yet.
        """
        tenant, pipeline, offset = options.get("tenant"), options.get("pipeline"), options.get("offset") or 0
        has_tenant = view.tenancy is not None or tenant is not None
        tenant_scope = scope_of(view, tenant) if has_tenant else None
        chosen = combined(options.get("filter"), options.get("where"))
        with_keys = tenant_scope is not None and view.tenancy is not None and view.tenancy.shard_keys
        config, threshold = view.search_config, options.get("score_threshold")
        if pipeline is None and threshold is None:
            threshold = config.score_threshold
        checked_pipeline = _checked_pipeline(view, pipeline)
        if (boost := options.get("boost")) is not None:
            checked_pipeline = replace(checked_pipeline, boost=Boost.of(boost))
        require_queries(queries)
        read = with_media_read(view, queries)
        if checked_pipeline.rerank and not all(query.text.strip() for query in read):
            checked_pipeline = _without_rerankers(checked_pipeline, options, read)
        pin, exclude = _named_ids(view, options)
        matching = chosen if tenant_scope is None else narrowed(tenant_scope, chosen)
        highlight, with_payload = options.get("highlight"), options.get("with_payload")
        passages = options.get("passages")
        if passages is None:  # none where only ids are fetched
            passages = 0 if with_payload is False else config.passages
        if passages and not any(view.slots[name].passages for name in checked_pipeline.slots):
            passages = 0
        request = cls(
            view=view,
            pipeline=checked_pipeline,
            queries=read,
            limit=_limit(checked_pipeline, options.get("limit"), offset, config.limit),
            offset=offset,
            filter=matching,
            score_threshold=threshold,
            params=options.get("params"),
            with_payload=True if with_payload is None else with_payload,
            tenant=tenant,
            scope=tenant_scope,
            shard_key={"shard_key": tenant} if with_keys else {},
            chosen=chosen,
            pin=pin,
            exclude=exclude,
            like=tuple(options.get("like") or ()),
            unlike=tuple(options.get("unlike") or ()),
            passages=passages,
            highlight=config.highlight if highlight is None else highlight,
        )
        if config.recent is not None and pipeline is None:
            request = replace(request, pin=(*pin, *newest_ids(request, config.recent)))
        left_out = (*request.pin, *exclude)
        return replace(request, filter=without_ids(view, matching, left_out, tenant)) if left_out else request

    @property
    def texts(self) -> list[str]:
        """The queries' texts; empty ones only of queries with media."""
        return [query.text for query in self.queries]

    @property
    def end(self) -> int:
        """Number of hits needed before the offset is cut off."""
        return self.offset + self.limit

    @property
    def begin(self) -> int:
        """Offset of the first unpinned hit to fetch: pinned hits push others back."""
        return max(0, self.offset - len(self.pin))

    @property
    def window(self) -> tuple[int, int]:
        """Limit and offset for Qdrant: the page, or all candidates of the first reranker."""
        rerank, begin = self.pipeline.rerank, self.begin
        return (rerank[0].candidates, 0) if rerank else (self.offset + self.limit - begin, begin)

    @property
    def reads_text(self) -> bool:
        """Whether it needs the documents' texts itself, for a reranker, passages or highlights."""
        return bool(self.pipeline.rerank or self.passages or self.highlight)

    @property
    def selector(self) -> bool | models.PayloadSelector:
        """The payload to fetch: the wanted keys, the document's id, references to media, and what a reranker reads."""
        if self.with_payload is True:
            left_out = [*self.view.copies, *(MEDIA_FIELDS["content"] if self.view.has_media else ())]
            return models.PayloadSelectorExclude(exclude=left_out) if left_out else True
        layout = self.view.layout
        names = [*self.wanted, *(("text", "title") if self.reads_text else ())]
        fields = [*(layout.field(name) for name in names), *layout.id_fields()]
        fields += MEDIA_FIELDS["reference"] if self.view.has_media else []
        return models.PayloadSelectorInclude(include=list(dict.fromkeys(fields)))

    @property
    def shard_key_selector(self) -> dict[str, Any]:
        """`shard_key` in the form of the client's methods."""
        return {"shard_key_selector": self.shard_key["shard_key"]} if self.shard_key else {}

    @property
    def wanted(self) -> Sequence[str]:
        """The requested payload keys, if not all."""
        return () if isinstance(self.with_payload, bool) else self.with_payload


def with_media_read(view: View, queries: Sequence[str | Query]) -> list[Query]:
    """The queries, with their media read by the view's store of media.

    Raises:
        MediaError: one cannot be read.
    """
    read, store = [query if isinstance(query, Query) else Query(query) for query in queries], view.media
    if not any(query.media for query in read):
        return read
    assert store is not None, "a handle gives its views a store of media"
    return [
        replace(query, media={modality: store.take(modality, raw) for modality, raw in query.media.items()})
        for query in read
    ]


def _without_rerankers(pipeline: Pipeline, options: SearchOptions, queries: Sequence[Query]) -> Pipeline:
    """The config's pipeline without its rerankers, for queries that have no text for them.

    Raises:
        SearchError: the rerankers were asked for, or some of the queries have a text.
    """
    if options.get("pipeline") is not None or any(query.text.strip() for query in queries):
        do = "give it a text, ask it alone, or name a pipeline without rerankers"
        raise SearchError("a reranker reads texts, and a query has none", where=repr(pipeline), do=do)
    return replace(pipeline, rerank=())


def _named_ids(view: View, options: SearchOptions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The pinned and excluded ids of the request and the config."""
    config, asked = view.search_config, options.get("pin")
    pin = tuple(asked if asked is not None else config.pin if options.get("pipeline") is None else ())
    exclude = tuple(dict.fromkeys([*config.exclude, *(options.get("exclude") or ())]))
    for identifier in pin:
        if identifier in exclude:
            raise SearchError("a document is both pinned and excluded", got=brief(identifier), do="name it once")
    return pin, exclude


_LAST_VALID = Memo[list[tuple[object, Pipeline]]](lambda view: [])


def _checked_pipeline(view: View, pipeline: Pipeline | Retrieve | str | None) -> Pipeline:
    """The pipeline, by default the config's, checked against the slots; the last valid one is remembered."""
    if isinstance(pipeline, str):
        pipeline = called(pipeline, view)
    source = view.search_config if pipeline is None else pipeline
    for known, checked in _LAST_VALID(view):
        if known is source:
            return checked
    chosen_pipeline = Pipeline.from_config(view.search_config, view.slots) if pipeline is None else pipeline
    if isinstance(chosen_pipeline, Retrieve):
        chosen_pipeline = Pipeline((chosen_pipeline,))
    check_pipeline(chosen_pipeline, view)
    _LAST_VALID(view)[:] = [(source, chosen_pipeline)]
    return chosen_pipeline


def check_pipeline(pipeline: Pipeline, view: View) -> None:
    """Raise SearchError if a slot is missing or does not suit its stage, StoreUnsupported if the server is too old."""
    if not isinstance(pipeline, Pipeline):
        raise SearchError("not a pipeline", got=type(pipeline).__name__, expected="diptych.search.Pipeline or Retrieve")
    for name in pipeline.slots:
        if name not in view.slots:
            raise SearchError(
                f"the pipeline names slot {name!r}, which the collection does not have",
                where=f"collection {view.name!r}, {pipeline!r}",
                expected=", ".join(view.slots),
                do=nearest(name, view.slots),
            )
    if len(pipeline.retrieve) > 1 and pipeline.fuse is None:
        raise SearchError("several slots need a fusion", where=repr(pipeline), do="add >> Dbsf(), Linear() or Rrf()")
    if not pipeline.retrieve:
        raise SearchError("the pipeline retrieves nothing", do='start with Retrieve("SLOT")')
    for slot in (view.slots[name] for name in pipeline.slots):
        if slot.kind == "text_index":
            lacks, do = "cannot search a text index", "update the server, name other slots in the pipeline, or use bm25"
            require_version(view.client, TEXT_INDEX, lacks, where=slot.where, do=do)
    for stage, kinds in ((pipeline.rescore, ("multivector", "dense")), (pipeline.diversify, ("dense",))):
        if stage is not None and (slot := view.slots[stage.slot]).kind not in kinds:
            what = f"this slot cannot {type(stage).__name__.lower()}"
            got = "a vector for each passage" if slot.passage_vectors else slot.kind
            raise SearchError(what, where=slot.where, got=got, expected=", ".join(kinds))


def direction(slot: Slot) -> int:
    """-1 where Qdrant's score is a distance, so lower is better; else 1."""
    return -1 if slot.similarity == "euclidean" else 1


def _limit(pipeline: Pipeline, limit: int | None, offset: int, default: int) -> int:
    depth = MOST_HITS if pipeline.depth is None else min(MOST_HITS, pipeline.depth)
    if limit is None:
        limit = max(1, min(default, depth - offset))
    if offset + limit > depth:
        raise SearchError(
            "limit and offset ask for more hits than the pipeline passes on",
            where=repr(pipeline),
            got=f"limit {brief(limit)} + offset {brief(offset)}",
            expected=f"at most {depth}",
            do="raise the candidates of its narrowest stage"
            if depth < MOST_HITS
            else "read everything with client.scroll",
        )
    return limit


def newest_ids(request: SearchRequest, recent: Recent) -> Sequence[str]:
    """Ids of the newest documents that match, newest first, without those that are pinned or excluded already.

    Documents without the field are never among them.

    Raises:
        SearchError: the field has no index by which documents can be ordered.
    """
    view = request.view
    order = models.OrderBy(key=quoted(view.layout.field(recent.field)), direction=models.Direction.DESC)
    payload: dict[str, Any] = {"with_payload": models.PayloadSelectorInclude(include=view.layout.id_fields())}
    options = {"limit": recent.count, "order_by": order, **payload, **request.shard_key_selector}
    found: dict[str, None] = {}
    while len(found) < recent.count:
        rest = without_ids(view, request.filter, [*request.pin, *request.exclude, *found], request.tenant)
        try:
            records, _ = read_store(view, partial(view.client.scroll, view.name, rest, **options))
        except SearchError as error:
            raise SearchError(
                "the newest documents cannot be found",
                where=f"collection {view.name!r}, search.recent.field {recent.field!r}",
                got=error.got,
                expected=f"a payload index of type {', '.join(ORDERED[:-1])} or {ORDERED[-1]}",
                do="name the field in populate.indexes and run diptych populate, which makes a missing index",
            ) from error
        if not records:
            break
        # A document with several values comes once for each, the highest first.
        found |= dict.fromkeys(view.layout.read(record.id, record.payload).id for record in records)
    return list(found)[: recent.count]
