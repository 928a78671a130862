"""What the page asks about documents: hits of a side, where a document stands and why, its grades and pictures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

from pydantic import Field
from qdrant_client import models
from starlette.requests import Request
from starlette.responses import Response

from diptych import Collection
from diptych.collection.documents import held, thumbnail_of
from diptych.collection.explain import Explanation, ScorePart, SlotScore, explain
from diptych.errors import DiptychError, DocumentNotFound, SearchError
from diptych.handle.view import View
from diptych.media.read import format_of
from diptych.metadata.payloads import MEDIA, OWN, picture_items
from diptych.search import Pipeline, Retrieve
from diptych.search.filters import missing_keys, read_filter
from diptych.search.options import SearchOptions, explain_options
from diptych.search.run import SearchOutcome, asearch_outcome, search_outcome
from diptych.search.store_calls import read_store, records_of
from diptych_serve.service.admission import Refused
from diptych_serve.service.answers import ExplainedDocument
from diptych_serve.service.context import Serving, json_of
from diptych_serve.service.requests import Body, read, read_query, require_room
from diptych_serve.studio.answers import Found, Grades, Leg, Located, RelevantDocument, ShownDocument, SideFacts
from diptych_serve.studio.context import Call, unless_gone
from diptych_serve.studio.display import document_fields, name_of, one_direction, shown_hits
from diptych_serve.studio.sides import DocumentQuestion, Question, Side, Words, checked, options_of, side_of

NAMED, MOST = 100, 1000  # relevant documents that are named, and judged ones that are looked up beside them
DEEPEST = 10_000  # ranks of a slot in which a document is looked for


async def search(request: Request) -> Response:
    """`POST /studio/api/search`."""
    call = Call.of(request)
    body = await read(request, Question, call.serving.limits)
    collection = checked(call.serving, body)

    async def answer() -> Response:
        side = await asyncio.to_thread(side_of, collection, body.side)
        options = options_of(body, side, body.limit)
        began = time.perf_counter()
        found = await asearch_outcome(side.view, body.question, options)
        milliseconds = 1000 * (time.perf_counter() - began)
        return await asyncio.to_thread(lambda: json_of(_shown(collection, side, found, milliseconds)))

    answered = await unless_gone(request, answer())
    call.serving.metrics.queries.labels(collection.name).inc()
    return answered


def _shown(collection: Collection, side: Side, found: SearchOutcome, milliseconds: float) -> Found:
    (hits,) = found.hits
    return Found(
        collection=collection.name,
        side=SideFacts.model_validate(side),
        pipeline=repr(found.request.pipeline),
        milliseconds=milliseconds,
        seconds=found.seconds,
        hits=shown_hits(found.request, hits, collection.name),
        warnings=[] if hits else _missing(found),
    )


def _missing(found: SearchOutcome) -> list[str]:
    """Why a search with a filter found nothing: fields that no document has, values that none has, or the query."""
    request, view, chosen = found.request, found.request.view.now(), found.request.chosen
    if chosen is None:
        return []
    try:
        if missing := missing_keys(view, chosen, tenant=request.tenant):
            return [*missing.values()]
        points, _ = read_store(view, lambda: view.client.scroll(view.name, request.filter, limit=1, with_payload=False))
    except DiptychError:  # the search was answered; a store failing since is reported by the next call
        return []
    if not points:
        return ["documents have the fields that the filter asks for, but none has these values"]
    return ["documents match the filter, but the query finds none of them"]


def locate(call: Call, body: DocumentQuestion) -> Located:
    """`POST /studio/api/locate`."""
    collection = checked(call.serving, body)
    side = side_of(collection, body.side)
    view = side.view.now()
    options = options_of(body, side)
    try:
        if not _holds(view, body):
            raise DocumentNotFound(body.id)
        (why,) = explain(side.view, body.question, ids=[body.id], **explain_options(options))
    except DocumentNotFound:  # perhaps deleted just now
        of_tenant = "" if body.tenant is None else f" of tenant {body.tenant!r}"
        sentence = f"Collection {collection.name!r} holds no document{of_tenant} with the id {body.id!r}."
        return Located(sentence=sentence)
    excluded = body.filter is not None and not _holds(view, body, read_filter(body.filter))
    legs = [_leg(side, view, options, body, name, slot, why) for name, slot in why.slots.items()]
    return Located(
        sentence=_sentence(why, options["limit"] or 0, excluded=excluded, legs=legs),
        exists=True,
        rank=why.rank,
        score=why.score,
        legs=legs,
        parts=[*why.parts],
        before=_before(why),
        why=ExplainedDocument.model_validate(why),
        document=ShownDocument(**document_fields(why.document, collection.name, tenant=body.tenant)),
    )


def _holds(view: View, body: DocumentQuestion, chosen: models.Filter | None = None) -> bool:
    return any(True for _ in records_of(view, [body.id], body.tenant, chosen=chosen))


def _before(why: Explanation) -> list[ScorePart]:
    """Where a later stage gave the whole score: the slots' parts of the score before it, and what boosts add."""
    if not any(part.kind == "stage" for part in why.parts):
        return []
    slots = {name: slot.contribution if why.pipeline.fuse else slot.score for name, slot in why.slots.items()}
    boosts = {} if why.pipeline.rescore else why.boosts  # else they are added to the rescorer's scores
    return [
        *(ScorePart(name, "slot", value) for name, value in slots.items() if value is not None),
        *(ScorePart(name, "boost", value) for name, value in boosts.items()),
    ]


def _leg(
    side: Side, view: View, options: SearchOptions, body: DocumentQuestion, name: str, own: SlotScore, why: Explanation
) -> Leg:
    """The document in one slot; if it is not among the slot's candidates, its rank among the best `DEEPEST`."""
    candidates = next(branch.candidates for branch in why.pipeline.retrieve if branch.slot == name)
    rank = own.rank
    if rank is None and own.score is not None:
        params = next((b.params for b in (side.pipeline.retrieve if side.pipeline else ()) if b.slot == name), None)
        alone = Pipeline((Retrieve(name, DEEPEST, params=params),))
        asked: SearchOptions = {**options, "pipeline": alone, "limit": DEEPEST, "with_payload": False}
        with suppress(SearchError):  # of a store that limits how much may be asked
            (hits,) = search_outcome(view, [body.question], asked).hits
            rank = next((place for place, hit in enumerate(hits, 1) if hit.id == body.id), None)
    return Leg(slot=name, rank=rank, candidate=own.rank is not None, candidates=candidates, score=own.score)


def _sentence(why: Explanation, limit: int, *, excluded: bool, legs: Sequence[Leg]) -> str:
    """Where the document stands, in one or two sentences."""
    name = f"“{one_direction(name_of(why.document))}”"
    if why.rank is not None:
        further = "" if why.rank <= limit else f", below the {limit} hits that are shown"
        return f"{name} is at rank {why.rank}{further}."
    if excluded:
        return f"{name} does not match the filter."
    if why.lost == "excluded by id":
        return f"{name} is excluded by its id in the pipeline's settings."
    if any(leg.candidate for leg in legs):
        return f"{name} was lost on the way: it is {why.lost}."
    reasons = []
    for leg in legs:
        has_it = f"has it at rank {leg.rank:,}" if leg.rank else f"has it beyond rank {DEEPEST:,}"
        passes = f"{leg.slot} {has_it} and passes only its first {leg.candidates:,} on"
        reasons.append(passes if leg.score is not None else f"{leg.slot} finds nothing of the query in it")
    return f"No slot passes {name} on: {'; '.join(reasons)}."


class OneMedia(Body):
    """`GET /studio/api/media`: a small picture of a document's media."""

    collection: str | None = None
    id: Annotated[str, Field(min_length=1, max_length=1024)]
    tenant: str | None = None
    name: Annotated[str, Field(max_length=40)] = "image"


async def media(request: Request) -> Response:
    """`GET /studio/api/media`: an image, which a browser can show and nothing else."""
    body = read_query(request, OneMedia)
    collection = Serving.of(request).served.collection(body.collection)
    content = await asyncio.to_thread(_small, collection, body)
    kind = "image/png" if format_of(content) == "PNG" else "image/jpeg"
    return Response(content, media_type=kind, headers={"Cache-Control": "private, max-age=300"})


def _small(collection: Collection, body: OneMedia) -> bytes:
    """The stored thumbnail, or one that is made now of bytes on this machine."""
    fields = models.PayloadSelectorInclude(include=[f"{OWN}.{MEDIA}"])
    record = next(records_of(collection.handle.now(), [body.id], body.tenant, payload=fields), None)
    if record is None:
        what = f"collection {collection.name!r} holds no document {body.id[:80]!r}"
        raise Refused(404, what, code="no_such_document", param="id")
    item = picture_items(record.payload or {}).get(body.name)
    if item is None:
        raise Refused(404, f"the document has no {body.name[:40]!r} that can be shown", code="no_picture")
    try:
        return thumbnail_of(collection.handle.view.media, body.name, item)
    except DiptychError as error:
        raise Refused(404, str(error), code="no_picture") from None


class JudgedQuestion(Body):
    """A query by its words, which may be those of a judged one."""

    collection: str | None = None
    query: Words
    judged: Annotated[str, Field(max_length=1000)] | None = None
    tenant: str | None = None


def grades(call: Call, body: JudgedQuestion) -> Grades:
    """`POST /studio/api/grades`: grades of documents that the collection holds for this tenant, and of no others."""
    require_room(call.serving.limits, [body.query], param="query")
    served = call.serving.served
    collection = served.collection(body.collection)
    judged = call.studio.sets.judged_query(body.query, collection, [*served.collections.values()], first=body.judged)
    ranked = sorted(judged.grades.items(), key=lambda item: (-item[1], item[0])) if judged else []
    relevant = [name for name, grade in ranked if grade >= 1]
    wanted = dict.fromkeys(relevant[:NAMED])
    others = [name for name, _ in ranked if name not in wanted][:MOST]
    view = collection.handle.now()
    named, unnamed = held(view, list(wanted), body.tenant, with_text=True), held(view, others, body.tenant)
    return Grades(
        judged=judged.name if judged else None,
        query=judged.query if judged else None,
        grades={name: grade for name, grade in ranked if name in named or name in unnamed},
        relevant=[
            RelevantDocument(id=name, name=name_of(named[name]), grade=grade) for name, grade in ranked if name in named
        ],
        more=len(relevant) - len(wanted),
        absent=0 if view.tenancy else len(wanted) - len(named),
    )
