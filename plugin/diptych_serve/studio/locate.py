"""`POST /studio/api/locate`: where a document stands in the answer to a query, and why it is not among the hits."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from diptych.collection.collection import Collection
from diptych.collection.explanation import Explanation, SlotScore
from diptych.errors import DocumentNotFound, SearchError
from diptych.handle.snapshot import View
from diptych.search import Pipeline, Retrieve
from diptych.search.options import Options
from diptych.search.qdrant.filters import read_filter
from diptych.search.run import outcome
from diptych_serve.service.requests import read
from diptych_serve.service.route_context import Serving
from diptych_serve.service.search_answers import ExplainedDocument
from diptych_serve.studio.context import Studio, unless_gone
from diptych_serve.studio.display import document_fields, isolated, name_of
from diptych_serve.studio.documents import record_of
from diptych_serve.studio.question import Question, Wanted, checked, options_of
from diptych_serve.studio.search import before, explanations, json_text, parts_of
from diptych_serve.studio.sides import Side, side_of

DEEPEST = 10_000  # ranks of a slot in which a document is looked for


async def locate(request: Request) -> Response:
    """`POST /studio/api/locate`."""
    serving = Serving.of(request)
    body = await read(request, Wanted, serving.limits)
    collection = checked(serving, body)
    return json_text(await unless_gone(request, Studio.of(request).aside(_located, collection, body)))


def _located(collection: Collection, body: Wanted) -> dict[str, Any]:
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


def _absent(collection: Collection, body: Wanted) -> dict[str, Any]:
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
