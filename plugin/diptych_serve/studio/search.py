"""What the page asks about documents: hits of a side, where a document stands and why, its grades, text and media."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from pydantic import Field
from pydantic_core import to_json
from qdrant_client import models
from starlette.requests import Request
from starlette.responses import Response

from diptych import Collection
from diptych.collection.documents import held, records_of, thumbnail_of
from diptych.collection.explain import Explanation, SlotScore, explain, explained_hits
from diptych.errors import DiptychError, DocumentNotFound, SearchError
from diptych.handle.snapshot import View
from diptych.media.read import format_of
from diptych.metadata.payloads import MEDIA, OWN, content_fields, from_payload, picture_items
from diptych.search import Pipeline, Retrieve
from diptych.search.filters import proposed, read_filter, some_missing
from diptych.search.options import Options
from diptych.search.run import SearchOutcome, outcome, outcome_later
from diptych.search.store_calls import read_store
from diptych_serve.service.admission import Refused
from diptych_serve.service.answers import ExplainedDocument
from diptych_serve.service.context import Serving
from diptych_serve.service.requests import Body, read, read_query, require_room
from diptych_serve.studio.context import Studio, unless_gone
from diptych_serve.studio.display import document_fields, fields_of, isolated, name_of, shown_hits
from diptych_serve.studio.evaluations import Judged
from diptych_serve.studio.sides import (
    DocumentQuestion,
    Question,
    Side,
    Words,
    asks_no_store,
    checked,
    options_of,
    side_of,
)

NAMED, MOST = 100, 1000  # relevant documents that are named, and judged ones that are looked up beside them
RELEVANT = 1  # the lowest grade of a relevant document

DEEPEST = 10_000  # ranks of a slot in which a document is looked for


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


async def locate(request: Request) -> Response:
    """`POST /studio/api/locate`."""
    serving = Serving.of(request)
    body = await read(request, DocumentQuestion, serving.limits)
    collection = checked(serving, body)
    return json_text(await unless_gone(request, Studio.of(request).aside(_located, collection, body)))


def _located(collection: Collection, body: DocumentQuestion) -> dict[str, Any]:
    side = side_of(collection, body.side)
    question = Question(**body.model_dump(exclude={"id"}, exclude_unset=True))
    view = side.view.now()
    if record_of(view, body.id, body.tenant) is None:
        return _absent(collection, body)
    options = options_of(question, side)
    try:
        (why,) = explanations(question, side, [body.id])
    except DocumentNotFound:  # deleted just now
        return _absent(collection, body)
    chosen = None if body.filter is None else read_filter(body.filter)
    excluded = chosen is not None and record_of(view, body.id, body.tenant, chosen=chosen) is None
    legs = [_leg(side, view, options, question, name, slot, why) for name, slot in why.slots.items()]
    sentence = _sentence(why, options.limit or 0, excluded=excluded, legs=legs)
    return {
        "sentence": sentence,
        "exists": True,
        "rank": why.rank,
        "score": why.score,
        "legs": legs,
        "parts": parts_of(why),
        "before": before(why),
        "why": ExplainedDocument.of(why).model_dump(),
        "document": {"id": body.id, **document_fields(why.document, collection.name, tenant=body.tenant)},
    }


def _absent(collection: Collection, body: DocumentQuestion) -> dict[str, Any]:
    of_tenant = "" if body.tenant is None else f" of tenant {body.tenant!r}"
    sentence = f"Collection {collection.name!r} holds no document{of_tenant} with the id {body.id!r}."
    return {"sentence": sentence, "exists": False, "rank": None, "score": None, "legs": [], "parts": [], "before": []}


def _leg(
    side: Side, view: View, options: Options, body: Question, name: str, own: SlotScore, why: Explanation
) -> dict[str, Any]:
    """The document in one slot; if it is not among the slot's candidates, its rank further down."""
    rank, candidates = own.rank, next(b.candidates for b in why.pipeline.retrieve if b.slot == name)
    deep = None
    if rank is None and own.score is not None:
        deep = _deep_rank(side, view, options, body, name, why.document.id)
    return {
        "slot": name,
        "rank": rank or deep,
        "candidate": rank is not None,
        "candidates": candidates,
        "score": own.score,
        "contribution": own.contribution,
    }


def _deep_rank(side: Side, view: View, options: Options, body: Question, name: str, id: str) -> int | None:
    """The document's rank among the best `DEEPEST` of the slot; None further down."""
    params = next((b.params for b in (side.pipeline.retrieve if side.pipeline else ()) if b.slot == name), None)
    alone = Pipeline((Retrieve(name, DEEPEST, params=params),))
    asked = Options(pipeline=alone, limit=DEEPEST, filter=options.filter, tenant=options.tenant, with_payload=False)
    try:
        (hits,) = outcome(view, [body.question], asked).hits
    except SearchError:  # a store that limits how much may be asked
        return None
    return next((rank for rank, hit in enumerate(hits, 1) if hit.id == id), None)


def _sentence(why: Explanation, limit: int, *, excluded: bool, legs: list[dict[str, Any]]) -> str:
    """Where the document stands, in one or two sentences."""
    name = f"“{isolated(name_of(why.document))}”"
    if why.rank is not None:
        further = "" if why.rank <= limit else f", below the {limit} hits that are shown"
        return f"{name} is at rank {why.rank}{further}."
    if excluded:
        return f"{name} does not match the filter."
    if why.lost == "excluded by id":
        return f"{name} is excluded by its id in the pipeline's settings."
    if any(leg["candidate"] for leg in legs):
        return f"{name} was lost on the way: it is {why.lost}."
    return f"No slot passes {name} on: {'; '.join(map(_leg_text, legs))}."


def _leg_text(leg: dict[str, Any]) -> str:
    if leg["score"] is None:
        return f"{leg['slot']} finds nothing of the query in it"
    rank = f"at rank {leg['rank']:,}" if leg["rank"] else f"beyond rank {DEEPEST:,}"
    return f"{leg['slot']} has it {rank} and passes only its first {leg['candidates']:,} on"


class OneDocument(Body):
    """`POST /studio/api/document`: a document whole."""

    collection: str | None = None
    id: Annotated[str, Field(min_length=1, max_length=1024)]
    tenant: str | None = None


class OneMedia(OneDocument):
    """`GET /studio/api/media`: a small picture of a document's media."""

    name: Annotated[str, Field(max_length=40)] = "image"


async def document(request: Request) -> Response:
    """`POST /studio/api/document`."""
    serving = Serving.of(request)
    body = await read(request, OneDocument, serving.limits)
    collection = serving.served.collection(body.collection)
    return json_text(await asyncio.to_thread(_whole, collection, body))


async def media(request: Request) -> Response:
    """`GET /studio/api/media`: an image, which a browser can show and nothing else."""
    serving = Serving.of(request)
    body = read_query(request, OneMedia)
    collection = serving.served.collection(body.collection)
    content = await asyncio.to_thread(_small, collection, body)
    kind = "image/png" if format_of(content) == "PNG" else "image/jpeg"
    return Response(content, media_type=kind, headers={"Cache-Control": "private, max-age=300"})


def _whole(collection: Collection, body: OneDocument) -> dict[str, Any]:
    view = collection.handle.now()
    left_out = [*view.copies, *(content_fields() if view.has_media else ())]
    payload = models.PayloadSelectorExclude(exclude=left_out) if left_out else True
    record = record_of(view, body.id, body.tenant, payload=payload)
    if record is None:
        raise _none(collection, body)
    found = from_payload(record.id, record.payload, view.layout)
    return {"id": found.id, **document_fields(found, collection.name, tenant=body.tenant)}


def _small(collection: Collection, body: OneMedia) -> bytes:
    """The stored thumbnail, or one that is made now of bytes on this machine."""
    item = picture_items(_stored(collection, body)).get(body.name)
    if item is None:
        raise Refused(404, f"the document has no {body.name[:40]!r} that can be shown", code="no_picture")
    try:
        return thumbnail_of(collection.handle.view.media, body.name, item)
    except DiptychError as error:
        raise Refused(404, str(error), code="no_picture") from None


def _stored(collection: Collection, body: OneMedia) -> Mapping[str, Any]:
    """The part of the document's payload that is of its media."""
    fields = models.PayloadSelectorInclude(include=[f"{OWN}.{MEDIA}"])
    record = record_of(collection.handle.now(), body.id, body.tenant, payload=fields)
    if record is None:
        raise _none(collection, body)
    return record.payload or {}


def record_of(
    view: View,
    id: str,
    tenant: str | None,
    *,
    chosen: models.Filter | None = None,
    payload: bool | models.PayloadSelector = False,
) -> models.Record | None:
    """The point of a document, if the collection holds it for this tenant and it matches a filter.

    Raises:
        TenantError: no tenant where one is required, or one that cannot be.
        SearchError, StoreError: the store cannot answer.
    """
    return next(records_of(view, [id], tenant, chosen=chosen, payload=payload), None)


def _none(collection: Collection, body: OneDocument) -> Refused:
    what = f"collection {collection.name!r} holds no document {body.id[:80]!r}"
    return Refused(404, what, code="no_such_document", param="id")


class JudgedQuestion(Body):
    """A query by its words, which may be those of a judged one."""

    collection: str | None = None
    query: Words
    judged: Annotated[str, Field(max_length=1000)] | None = None
    tenant: str | None = None


async def grades(request: Request) -> Response:
    """`POST /studio/api/grades`."""
    serving, studio = Serving.of(request), Studio.of(request)
    body = await read(request, JudgedQuestion, serving.limits)
    require_room(serving.limits, [body.query], param="query")
    collection = serving.served.collection(body.collection)
    served = list(serving.served.collections.values())

    def found() -> dict[str, Any]:
        judged = studio.sets.judged_query(body.query, collection, served, first=body.judged)
        return _grades(collection, judged, body.tenant)

    return json_text(await asyncio.to_thread(found))


def _grades(collection: Collection, judged: Judged | None, tenant: str | None) -> dict[str, Any]:
    """The grades of documents that the collection holds for this tenant; of others nothing is said."""
    ranked = sorted(judged.grades.items(), key=lambda item: (-item[1], item[0])) if judged else []
    relevant = [name for name, grade in ranked if grade >= RELEVANT]
    wanted = dict.fromkeys(relevant[:NAMED])
    others = [name for name, _ in ranked if name not in wanted][:MOST]
    view = collection.handle.now()
    named, unnamed = held(view, list(wanted), tenant, with_text=True), held(view, others, tenant)
    return {
        "judged": judged.name if judged else None,
        "query": judged.query if judged else None,
        "grades": {name: grade for name, grade in ranked if name in named or name in unnamed},
        "relevant": [
            {"id": name, "name": name_of(named[name]), "grade": grade} for name, grade in ranked if name in named
        ],
        "more": len(relevant) - len(wanted),
        "absent": 0 if collection.handle.view.tenancy else len(wanted) - len(named),
    }
