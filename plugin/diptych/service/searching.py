"""`/search`: a collection's pipeline, or one slot of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from diptych.collection import Collection
from diptych.search.filter_keys import known_missing
from diptych.search.filters import read_filter
from diptych.service.answers import ExplainedDocument, QueryAnswer, SearchAnswer, explained, found
from diptych.service.inputs import accepted, require_words
from diptych.service.limits import Limits
from diptych.service.refusals import Refused
from diptych.service.requests import SearchRequest, read, require_room
from diptych.service.served import single
from diptych.service.serving import Serving
from diptych.types import Hit

EXPLAINED = 100  # hits of a request that are explained at most
INLINE = 100  # hits that are written within the event loop; more are written in a thread


async def search(request: Request) -> Response:
    """`POST /search`."""
    serving = Serving.of(request)
    asked = await read(request, SearchRequest, serving.limits)
    texts = asked.texts
    require_room(serving.limits, texts, param="query" if asked.query is not None else "queries")
    collection = serving.served.collection(asked.collection)
    require_words(texts, accepted(collection), where=f"collection {collection.name!r}")
    _require_few(asked, collection.handle.search_config.limit, serving.limits)
    if asked.slot is None and asked.filter is None:  # nothing to look up and little to read: a thread would cost more
        options = _options(collection, asked)
    else:
        options = await asyncio.to_thread(_options, collection, asked)
    hits = await _found(collection, asked, options)
    serving.metrics.queries.labels(collection.name).inc(len(texts))
    if not asked.explain and sum(map(len, hits)) <= INLINE:
        return _written(collection, asked, hits, options)
    return await asyncio.to_thread(_written, collection, asked, hits, options)


def _written(
    collection: Collection, asked: SearchRequest, hits: Sequence[list[Hit]], options: dict[str, Any]
) -> Response:
    results = [QueryAnswer(query=text, hits=found(own)) for text, own in zip(asked.texts, hits, strict=True)]
    if asked.explain:
        for result, own in zip(results, hits, strict=True):
            result.explanations = _explained(collection, result.query, own, options)
    warnings = None if any(hits) else _warnings(collection, options)
    answer = SearchAnswer(collection=collection.name, results=results, warnings=warnings)
    skipped: dict[str, Any] = {} if asked.explain else {"results": {"__all__": {"explanations"}}}
    if not warnings:
        skipped["warnings"] = True
    return Response(answer.model_dump_json(exclude=skipped), media_type="application/json")


def _warnings(collection: Collection, options: dict[str, Any]) -> list[str]:
    """What the search has just found wrong with the filter."""
    if options["filter"] is None:
        return []
    missing = known_missing(collection.handle.view, options["filter"], tenant=options["tenant"])
    return [f"no document has {key!r}, which the filter asks for" for key in missing]


def _options(collection: Collection, asked: SearchRequest) -> dict[str, Any]:
    return {
        "limit": asked.limit,
        "offset": asked.offset,
        "filter": None if asked.filter is None else read_filter(asked.filter),
        "score_threshold": asked.score_threshold,
        "pipeline": single(collection, asked.slot),
        "with_payload": asked.with_payload,
        "tenant": asked.tenant,
    }


async def _found(collection: Collection, asked: SearchRequest, options: dict[str, Any]) -> list[list[Hit]]:
    """One query together with those of other requests; several as a batch of their own."""
    if len(asked.texts) == 1:
        return [await collection.asearch(asked.texts[0], **options)]
    return await asyncio.to_thread(collection.search_batch, asked.texts, **options)


def _explained(collection: Collection, query: str, hits: list[Hit], options: dict[str, Any]) -> list[ExplainedDocument]:
    if not hits:
        return []
    ids = [hit.id for hit in hits]
    same = {name: options[name] for name in ("filter", "pipeline", "tenant")}
    return explained(collection.explain(query, ids=ids, **same))


def _require_few(asked: SearchRequest, default: int, limits: Limits) -> None:
    each = asked.offset + (asked.limit or default)
    wanted = len(asked.texts) * each
    most = EXPLAINED if asked.explain else limits.hits
    if wanted > most:
        raise Refused(
            422,
            f"a request for too many hits\n  got: {len(asked.texts)} queries x {each} hits, skipped ones included\n"
            f"  expected: at most {most} hits{' with explanations' if asked.explain else ''}\n"
            "  do: lower `limit` or `offset`, or send several requests",
            code="too_many_hits",
            param="limit",
        )
