"""The table of Studio's addresses, and `studio`, which adds them to the service."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from starlette.middleware import Middleware
from starlette.routing import Route

from diptych.service.extension import Extension
from diptych.service.routes.openapi import Operation
from diptych.studio.context import Studio
from diptych.studio.page import API, BASE, DOCS, Headers, is_public, page, to_docs, to_page
from diptych.studio.search import Question, search
from diptych.studio.state import state

ROUTES = (
    Route(DOCS, to_docs),
    Route(BASE, to_page),
    Route(f"{API}/state", state),
    Route(f"{API}/search", search, methods=["POST"]),
    Route(f"{BASE}/{{file:path}}", page),  # last: what is no route of the API is a file of the page
)
_ERRORS = (400, 401, 404, 413, 415, 422, 429, 500, 503)
OPERATIONS = (
    Operation("get", f"{API}/state", "What is served, and what can be asked", errors=(401, 429)),
    Operation("post", f"{API}/search", "Hits of one side, with what a page shows", asked=Question, errors=_ERRORS),
)


def studio(*, queries: Sequence[Path] = (), judgements: Path | None = None, writes: bool = False) -> Extension:
    """Studio, to be given to `diptych.service.application.application` as its extension.

    Args:
        queries: folders with judged queries.
        judgements: the file that judging saves to; without it nobody may judge.
        writes: whether a rollback may be asked for.
    """
    context = Studio(tuple(queries), judgements, writes)
    return Extension(
        routes=ROUTES,
        operations=OPERATIONS,
        middleware=[Middleware(Headers)],
        has_page=True,
        is_public=is_public,
        state={"studio": context},
        close=context.close,
    )
