"""`POST /studio/api/search`: hits of one side, with what the page shows of them."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from diptych.collection.collection import Collection
from diptych.search.filters import read_filter
from diptych.search.options import Options
from diptych.search.run import answered_later
from diptych.service.allowed_inputs import accepted, require_inline, require_words
from diptych.service.bodies import InlineMedia
from diptych.service.limits import Limits
from diptych.service.requests import read, require_room
from diptych.service.route_context import Serving
from diptych.service.search_answers import passage_fields
from diptych.studio.sides import PIPELINE, Side, side_of
from diptych.types import Hit, Query

MOST = 100  # hits of an answer, which a page shows
Words = Annotated[str, Field(max_length=1_000_000)]


class MixedQuery(BaseModel):
    """A query of media, perhaps with words."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Words = ""
    media: InlineMedia | None = None


class Question(BaseModel):
    """What is asked of one side of a collection."""

    model_config = ConfigDict(extra="forbid", strict=True)

    collection: str | None = None
    side: str = PIPELINE
    query: Words | MixedQuery
    limit: Annotated[int, Field(ge=1, le=MOST)] | None = None
    offset: Annotated[int, Field(ge=0, le=10_000)] = 0
    filter: dict[str, Any] | None = None
    tenant: str | None = None
    explain: bool = False

    @property
    def text(self) -> str:
        """The query's words."""
        return self.query if isinstance(self.query, str) else self.query.text

    @property
    def question(self) -> str | Query:
        """The query, with its media if it has any."""
        media = {} if isinstance(self.query, str) else self.query.media or {}
        return Query(self.text, media={str(name): raw for name, raw in media.items()}) if media else self.text


async def search(request: Request) -> Response:
    """`POST /studio/api/search`."""
    serving = Serving.of(request)
    body = await read(request, Question, serving.limits)
    collection = checked(serving, body)
    side = await asyncio.to_thread(side_of, collection, body.side)
    began = time.perf_counter()
    found = await answered_later(side.view, body.question, options_of(body, side))
    milliseconds = 1000 * (time.perf_counter() - began)
    serving.metrics.queries.labels(collection.name).inc()
    answer = {
        "side": {"id": side.id, "label": side.label, "kind": side.kind},
        "milliseconds": milliseconds,
        "stages": [{"name": name, "milliseconds": 1000 * seconds} for name, seconds in found.seconds.items()],
        "hits": [hit_fields(hit) for hit in found.hits[0]],
    }
    return Response(to_json(answer, inf_nan_mode="null"), media_type="application/json")


def checked(serving: Serving, body: Question) -> Collection:
    """The collection that is asked; raises what is wrong with the question before anything is encoded."""
    collection = serving.served.collection(body.collection)
    limits: Limits = serving.limits
    require_room(limits, [body.text], param="query")
    where = f"collection {collection.name!r}"
    require_words([body.text], accepted(collection), where=where)
    if not isinstance(body.query, str):
        require_inline(body.query.media or {}, where=f"{where}, media")
    return collection


def options_of(body: Question, side: Side) -> Options:
    """The question's options of a search."""
    return Options(
        pipeline=side.pipeline,
        limit=body.limit,
        offset=body.offset,
        filter=None if body.filter is None else read_filter(body.filter),
        tenant=body.tenant,
    )


def hit_fields(hit: Hit) -> dict[str, Any]:
    """A hit as the page shows it."""
    document = hit.document
    return {
        "id": document.id,
        "score": hit.score,
        "title": document.title,
        "text": document.text,
        "highlights": [],
        "passages": [passage_fields(passage) for passage in hit.passages],
        "thumbnail": None,
        "payload": dict(document.metadata),
        "parts": [],
    }
