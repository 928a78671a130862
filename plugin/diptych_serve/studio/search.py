"""`POST /studio/api/search`: hits of one side, with the time of each stage and, if asked, the parts of each score."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from diptych.collection.collection import Collection
from diptych.collection.explain import explain, explained_hits
from diptych.collection.explanation import Explanation
from diptych.errors import DiptychError
from diptych.search.filter_keys import proposed, some_missing
from diptych.search.options import Options
from diptych.search.qdrant.store_calls import read_store
from diptych.search.run import SearchOutcome, outcome_later
from diptych_serve.service.requests import read
from diptych_serve.service.route_context import Serving
from diptych_serve.service.search_answers import ExplainedDocument
from diptych_serve.studio.context import Studio, unless_gone
from diptych_serve.studio.display import shown_hits
from diptych_serve.studio.question import Question, checked, options_of
from diptych_serve.studio.sides import Side, asks_no_store, side_of
from diptych_serve.studio.state import fields_of


async def search(request: Request) -> Response:
    """`POST /studio/api/search`."""
    serving = Serving.of(request)
    body = await read(request, Question, serving.limits)
    collection = checked(serving, body)
    answer = await unless_gone(request, _answer(Studio.of(request), collection, body))
    serving.metrics.queries.labels(collection.name).inc()
    return answer


def json_text(value: Any) -> Response:
    """`value` as JSON; numbers that are not finite are null."""
    return Response(to_json(value, inf_nan_mode="null"), media_type="application/json")


async def _answer(studio: Studio, collection: Collection, body: Question) -> Response:
    is_cheap = body.filter is None and asks_no_store(collection, body.side)  # a thread would cost more
    side, options = _prepared(collection, body) if is_cheap else await asyncio.to_thread(_prepared, collection, body)
    began = time.perf_counter()
    found = await outcome_later(side.view, body.question, options)
    milliseconds = 1000 * (time.perf_counter() - began)
    work = partial(_shown, collection, body, side, found, milliseconds)
    return await (studio.aside(work) if body.explain else asyncio.to_thread(work))


def _prepared(collection: Collection, body: Question) -> tuple[Side, Options]:
    side = side_of(collection, body.side)
    return side, options_of(body, side)


def _shown(collection: Collection, body: Question, side: Side, found: SearchOutcome, milliseconds: float) -> Response:
    (hits,) = found.hits
    shown = shown_hits(found.request, hits, collection.name)
    warnings = [] if found.request.chosen is None or hits else _missing(found)
    if body.explain:
        warnings += _explain(body, side, shown)
    return json_text(
        {
            "collection": collection.name,
            "side": side.facts,
            "pipeline": repr(found.request.pipeline),
            "milliseconds": milliseconds,
            "stages": [{"name": name, "milliseconds": 1000 * seconds} for name, seconds in found.seconds.items()],
            "hits": shown,
            "warnings": warnings,
        }
    )


def _explain(body: Question, side: Side, hits: Sequence[dict[str, Any]]) -> list[str]:
    """Add to each hit why it stands where it does; a sentence about those that were deleted since the search."""
    found = explained_hits(lambda ids: explanations(body, side, ids), [hit["id"] for hit in hits])
    known = {why.document.id: why for why in found}
    for hit in hits:
        if why := known.get(hit["id"]):
            hit |= {"parts": parts_of(why), "before": before(why), "why": ExplainedDocument.of(why).model_dump()}
    deleted = [hit["id"] for hit in hits if hit["id"] not in known]
    return [f"deleted since the search, so without explanation: {', '.join(deleted)[:200]}"] if deleted else []


def explanations(body: Question, side: Side, ids: Sequence[str]) -> list[Explanation]:
    """Why these documents stand where they do on this side, in their order.

    Raises:
        DocumentNotFound: a document does not exist.
        SearchError: the search cannot be made.
    """
    options = options_of(body, side)
    asked: dict[str, Any] = {"pipeline": options.pipeline, "filter": options.filter, "tenant": options.tenant}
    return explain(side.view, body.question, ids=ids, **asked)


def parts_of(why: Explanation) -> list[dict[str, Any]]:
    """The parts that the score is the sum of; those of sparse slots with their words, which sum to the slot's score."""
    parts = []
    for part in why.parts:
        slot = why.slots.get(part.name) if part.kind == "slot" else None
        words = [{"word": term.word, "value": term.contribution} for term in slot.terms] if slot else []
        blocks = [{"name": block.name, "value": block.contribution} for block in slot.blocks] if slot else []
        parts.append({**asdict(part), "words": words, "blocks": blocks})
    return parts


def before(why: Explanation) -> list[dict[str, Any]]:
    """Where a later stage gave the whole score: the slots' parts of the score before it, and what boosts add."""
    if not any(part.kind == "stage" for part in why.parts):
        return []
    slots = {name: slot.contribution if why.pipeline.fuse else slot.score for name, slot in why.slots.items()}
    parts = [{"name": name, "kind": "slot", "value": value} for name, value in slots.items() if value is not None]
    boosts = {} if why.pipeline.rescore else why.boosts  # else they are added to the rescorer's scores
    return [*parts, *({"name": name, "kind": "boost", "value": value} for name, value in boosts.items())]


def _missing(found: SearchOutcome) -> list[str]:
    """Why a search with a filter found nothing: fields that no document has, values that none has, or the query."""
    request = found.request
    assert request.chosen is not None, "the caller has checked"
    view, chosen = request.view.now(), request.chosen
    try:
        if missing := some_missing(view, chosen, tenant=request.tenant):
            known = [str(field["key"]) for field in fields_of(view)]
            return [_no_field(key, [name for name in known if name != key]) for key in missing]
        points, _ = read_store(view, lambda: view.client.scroll(view.name, request.filter, limit=1, with_payload=False))
    except DiptychError:  # the search was answered; a store failing since is reported by the next call
        return []
    if not points:
        return ["documents have the fields that the filter asks for, but none has these values"]
    return ["documents match the filter, but the query finds none of them"]


def _no_field(key: str, known: Sequence[str]) -> str:
    """`no document has 'lettre', which the filter asks for: did you mean 'letter'?`."""
    near = proposed(key, known)
    return f"no document has {key!r}, which the filter asks for{f': {near}' if near else ''}"
