"""`/search`: a collection's pipeline, or one slot of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from diptych.collection.collection import Collection
from diptych.search.filter_keys import known_missing
from diptych.search.filters import read_filter
from diptych.service.allowed_inputs import accepted, require_words
from diptych.service.error_answers import Refused
from diptych.service.limits import Limits
from diptych.service.requests import SearchRequest, read, require_room
from diptych.service.route_context import Serving
from diptych.service.search_answers import ExplainedDocument, explained, hit_fields
from diptych.service.served import single
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
    """The answer in the format of `SearchAnswer`, without building its models: that took four times as long."""
    results: list[dict[str, Any]] = [
        {"query": text, "hits": [hit_fields(hit) for hit in own]} for text, own in zip(asked.texts, hits, strict=True)
    ]
    if asked.explain:
        for result, text, own in zip(results, asked.texts, hits, strict=True):
            result["explanations"] = _explained(collection, text, own, options)
    answer: dict[str, Any] = {"collection": collection.name, "results": results}
    if not any(hits) and (warnings := _warnings(collection, options)):
        answer["warnings"] = warnings
    return Response(to_json(answer, inf_nan_mode="null"), media_type="application/json")


def _warnings(collection: Collection, options: dict[str, Any]) -> list[str]:
    """What is wrong with the filter, according to the search just made."""
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
    """One query, joined with those of other requests; several as a batch of their own."""
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
