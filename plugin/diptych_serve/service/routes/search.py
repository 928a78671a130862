"""`/search`: a collection's pipeline, or one slot of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from diptych.collection.collection import Collection
from diptych.collection.score_documents import BlocksLike
from diptych.search.filter_keys import known_missing
from diptych.search.qdrant.filters import read_filter
from diptych.types import Hit, Query
from diptych_serve.service.allowed_inputs import accepted, require_inline, require_words
from diptych_serve.service.bodies import SearchRequest
from diptych_serve.service.error_answers import Refused
from diptych_serve.service.limits import Limits
from diptych_serve.service.requests import read, require_room
from diptych_serve.service.route_context import Serving
from diptych_serve.service.search_answers import ExplainedDocument, explained, hit_fields
from diptych_serve.service.served import single

EXPLAINED_OPTIONS = ("filter", "pipeline", "tenant", "boost", "pin", "exclude", "like", "unlike")
EXPLAINED = 100  # hits of a request that are explained at most
INLINE = 100  # hits that are written within the event loop; more are written in a thread


async def search(request: Request) -> Response:
    """`POST /search`."""
    serving = Serving.of(request)
    body = await read(request, SearchRequest, serving.limits)
    texts = body.texts
    require_room(serving.limits, texts, param="query" if body.query is not None else "queries")
    collection = serving.served.collection(body.collection)
    require_room(serving.limits, body.example_texts, param="like")
    require_words([*texts, *body.example_texts], accepted(collection), where=f"collection {collection.name!r}")
    require_inline(body.media or {}, where=f"collection {collection.name!r}, media")
    _require_few(body, collection.handle.search_config.limit, serving.limits)
    if body.slot is None and body.filter is None:  # nothing to look up and little to read: a thread would cost more
        options = _options(collection, body)
    else:
        options = await asyncio.to_thread(_options, collection, body)
    hits = await _hits(collection, body, options)
    serving.metrics.queries.labels(collection.name).inc(len(texts))
    if not body.explain and sum(map(len, hits)) <= INLINE:
        return _response(collection, body, hits, options)
    return await asyncio.to_thread(_response, collection, body, hits, options)


def _response(
    collection: Collection, body: SearchRequest, hits: Sequence[list[Hit]], options: dict[str, Any]
) -> Response:
    """The answer in the format of `SearchAnswer`, without building its models: that took four times as long."""
    results: list[dict[str, Any]] = [
        {"query": text, "hits": [hit_fields(hit) for hit in query_hits]}
        for text, query_hits in zip(body.texts, hits, strict=True)
    ]
    if body.explain:
        questions: list[str | Query] = [*body.queries] if body.queries else [body.question]
        for result, question, query_hits in zip(results, questions, hits, strict=True):
            result["explanations"] = _explained(collection, question, query_hits, options, body.blocks)
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


def _options(collection: Collection, body: SearchRequest) -> dict[str, Any]:
    return {
        "limit": body.limit,
        "offset": body.offset,
        "filter": None if body.filter is None else read_filter(body.filter),
        "score_threshold": body.score_threshold,
        "pipeline": single(collection, body.slot),
        "with_payload": body.with_payload,
        "tenant": body.tenant,
        "boost": body.boost,
        "pin": body.pin,
        "exclude": body.exclude,
        "passages": body.passages,
        "highlight": body.highlight,
        **body.examples,
    }


async def _hits(collection: Collection, body: SearchRequest, options: dict[str, Any]) -> list[list[Hit]]:
    """One query, joined with those of other requests; several as a batch of their own."""
    if body.queries is None or len(body.queries) == 1:
        return [await collection.asearch(body.question if body.queries is None else body.queries[0], **options)]
    return await asyncio.to_thread(collection.search_batch, body.texts, **options)


def _explained(
    collection: Collection, query: str | Query, hits: list[Hit], options: dict[str, Any], blocks: BlocksLike | None
) -> list[ExplainedDocument]:
    from diptych.collection.explain import explained_hits

    same = {name: options[name] for name in EXPLAINED_OPTIONS}
    ids = [hit.id for hit in hits]
    return explained(explained_hits(lambda ids: collection.explain(query, ids=ids, blocks=blocks, **same), ids))


def _require_few(body: SearchRequest, default: int, limits: Limits) -> None:
    each = body.offset + (body.limit or default)
    requested = len(body.texts) * each
    limit = EXPLAINED if body.explain else limits.hits
    if requested > limit:
        raise Refused(
            422,
            f"a request for too many hits\n  got: {len(body.texts)} queries x {each} hits, skipped ones included\n"
            f"  expected: at most {limit} hits{' with explanations' if body.explain else ''}\n"
            "  do: lower `limit` or `offset`, or send several requests",
            code="too_many_hits",
            param="limit",
        )
