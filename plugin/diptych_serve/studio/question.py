"""`Question`: what the page asks of one side of a collection, checked before anything is encoded."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import Field

from diptych.collection.collection import Collection
from diptych.search import Pipeline
from diptych.search.options import Options
from diptych.search.qdrant.filters import read_filter
from diptych.types import Query
from diptych_serve.service.allowed_inputs import accepted, require_inline, require_words
from diptych_serve.service.bodies import Body, InlineMedia
from diptych_serve.service.requests import require_room
from diptych_serve.service.route_context import Serving
from diptych_serve.studio.sides import PIPELINE, Side, SideId

MOST, DEEPEST = 100, 10_000  # hits of an answer, which a page shows, and of those before
Words: TypeAlias = Annotated[str, Field(max_length=1_000_000)]


class MixedQuery(Body):
    """A query of media, perhaps with words."""

    text: Words = ""
    media: InlineMedia | None = None


class Asked(Body):
    """A query of one side."""

    collection: str | None = None
    side: SideId = PIPELINE
    query: Words | MixedQuery
    filter: dict[str, Any] | None = None
    tenant: str | None = None

    @property
    def text(self) -> str:
        """The query's words."""
        return self.query if isinstance(self.query, str) else self.query.text

    @property
    def media(self) -> dict[str, Any]:
        """The query's media by modality."""
        found = {} if isinstance(self.query, str) else self.query.media or {}
        return {str(name): raw for name, raw in found.items()}

    @property
    def question(self) -> str | Query:
        """The query, with its media if it has any."""
        return Query(self.text, media=self.media) if self.media else self.text


class Question(Asked):
    """`POST /studio/api/search`: hits of one side."""

    limit: Annotated[int, Field(ge=1, le=MOST)] | None = None
    offset: Annotated[int, Field(ge=0, le=DEEPEST)] = 0
    explain: bool = False


class Wanted(Asked):
    """`POST /studio/api/locate`: where a document stands."""

    id: Annotated[str, Field(min_length=1, max_length=1024)]


def checked(serving: Serving, body: Asked) -> Collection:
    """The collection that is asked.

    Raises:
        DiptychError, Refused: the question names another collection, is too long, or names a file or address.
    """
    collection = serving.served.collection(body.collection)
    require_room(serving.limits, [body.text], param="query")
    where = f"collection {collection.name!r}"
    require_words([body.text], accepted(collection), where=where)
    require_inline(body.media, where=f"{where}, media")
    return collection


def options_of(body: Question, side: Side) -> Options:
    """The question's options of a search: at most the hits that a page shows, and that the side's stages pass on."""
    view = side.view.now()
    pipeline = side.pipeline or Pipeline.from_config(view.search_config, view.slots)
    left = MOST if pipeline.depth is None else max(1, pipeline.depth - body.offset)
    limit = min(body.limit or view.search_config.limit, left, MOST)
    filter = None if body.filter is None else read_filter(body.filter)
    return Options(pipeline=side.pipeline, limit=limit, offset=body.offset, filter=filter, tenant=body.tenant)
