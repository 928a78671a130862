"""`POST /studio/api/grades`: what is judged of a query that belongs to a set of judged queries."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from diptych.collection.collection import Collection
from diptych.collection.documents import held
from diptych_serve.service.bodies import Body
from diptych_serve.service.requests import read, require_room
from diptych_serve.service.route_context import Serving
from diptych_serve.studio.context import Studio
from diptych_serve.studio.display import name_of
from diptych_serve.studio.jobs.query_sets import Judged
from diptych_serve.studio.question import Words
from diptych_serve.studio.search import json_text

NAMED, MOST = 100, 1000  # relevant documents that are named, and judged ones that are looked up beside them
RELEVANT = 1  # the lowest grade of a relevant document


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
