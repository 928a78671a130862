"""The table of Studio's addresses, and `studio`, which adds them to the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from starlette.middleware import Middleware
from starlette.routing import Route

from diptych.service.extension import Extension
from diptych.service.routes.openapi import Operation
from diptych.studio.answers import Found, Located, ShownDocument, Snippets, State
from diptych.studio.context import Studio
from diptych.studio.documents import OneDocument, OneMedia, document, media
from diptych.studio.export import Exported, export
from diptych.studio.locate import locate
from diptych.studio.page import API, BASE, DOCS, Headers, is_public, page, to_docs, to_page
from diptych.studio.question import Question, Wanted
from diptych.studio.search import search
from diptych.studio.snippets import snippets
from diptych.studio.state import state

ROUTES = (
    Route(DOCS, to_docs),
    Route(BASE, to_page),
    Route(f"{API}/state", state),
    Route(f"{API}/search", search, methods=["POST"]),
    Route(f"{API}/locate", locate, methods=["POST"]),
    Route(f"{API}/snippets", snippets, methods=["POST"]),
    Route(f"{API}/document", document, methods=["POST"]),
    Route(f"{API}/media", media),
    Route(f"{API}/export", export, methods=["POST"]),
    Route(f"{BASE}/{{file:path}}", page),  # last: what is no route of the API is a file of the page
)
_ERRORS = (400, 401, 404, 413, 415, 422, 429, 500, 503)
_OPEN = (401, 429)
OPERATIONS = (
    Operation("get", f"{API}/state", "What is served, and what can be asked", State, errors=_OPEN),
    Operation("post", f"{API}/search", "Hits of one side, as a page shows them", Found, Question, errors=_ERRORS),
    Operation("post", f"{API}/locate", "Where a document stands, and why", Located, Wanted, errors=_ERRORS),
    Operation("post", f"{API}/snippets", "A query in other words", Snippets, Question, errors=_ERRORS),
    Operation("post", f"{API}/document", "A document whole", ShownDocument, OneDocument, errors=_ERRORS),
    Operation("get", f"{API}/media", "A small picture of a document's media", query=OneMedia, errors=(404, *_OPEN)),
    Operation("post", f"{API}/export", "A view as one HTML file", asked=Exported, errors=_ERRORS),
)


def studio(
    *,
    queries: Sequence[Path] = (),
    judgements: Path | None = None,
    writes: bool = False,
    opened: Mapping[str, str] | None = None,
) -> Extension:
    """Studio, to be given to `diptych.service.application.application` as its extension.

    Args:
        queries: folders with judged queries.
        judgements: the file that judging saves to; without it nobody may judge.
        writes: whether a rollback may be asked for.
        opened: by collection, what programs on this machine give to `Collection.open`, for snippets.
    """
    context = Studio(tuple(queries), judgements, writes, opened or {})
    return Extension(
        routes=ROUTES,
        operations=OPERATIONS,
        middleware=[Middleware(Headers)],
        has_page=True,
        is_public=is_public,
        state={"studio": context},
        close=context.close,
    )
