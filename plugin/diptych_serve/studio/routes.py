"""The table of Studio's addresses, and `studio`, which adds them to the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from starlette.middleware import Middleware
from starlette.routing import Route

from diptych_serve.service.application import Extension
from diptych_serve.service.routes.openapi import Operation
from diptych_serve.studio.answers import Found, Grades, Located, ShownDocument, Snippets, State
from diptych_serve.studio.context import Studio
from diptych_serve.studio.documents import OneDocument, OneMedia, document, media
from diptych_serve.studio.export import Exported, export
from diptych_serve.studio.grades import JudgedQuestion, grades
from diptych_serve.studio.handlers import (
    NewGrade,
    NewJob,
    NewJudging,
    Nothing,
    OneCollection,
    RollBack,
    collection_health,
    end_job,
    grade,
    job,
    judging,
    roll_back,
    start_job,
    start_judging,
    swap,
    undo,
)
from diptych_serve.studio.jobs.answers import HealthAnswer, JobAnswer, JudgingAnswer, RolledBack, SwapAnswer
from diptych_serve.studio.jobs.query_sets import QuerySets
from diptych_serve.studio.jobs.queue import Jobs
from diptych_serve.studio.judging import JudgingSessions
from diptych_serve.studio.locate import locate
from diptych_serve.studio.page import API, BASE, DOCS, Headers, is_public, page, to_docs, to_page
from diptych_serve.studio.question import Question, Wanted
from diptych_serve.studio.search import search
from diptych_serve.studio.snippets import snippets
from diptych_serve.studio.state import state

ROUTES = (
    Route(DOCS, to_docs),
    Route(BASE, to_page),
    Route(f"{API}/state", state),
    Route(f"{API}/search", search, methods=["POST"]),
    Route(f"{API}/locate", locate, methods=["POST"]),
    Route(f"{API}/grades", grades, methods=["POST"]),
    Route(f"{API}/snippets", snippets, methods=["POST"]),
    Route(f"{API}/document", document, methods=["POST"]),
    Route(f"{API}/media", media),
    Route(f"{API}/export", export, methods=["POST"]),
    Route(f"{API}/jobs", start_job, methods=["POST"]),
    Route(f"{API}/jobs/{{id}}", job),
    Route(f"{API}/jobs/{{id}}", end_job, methods=["DELETE"]),
    Route(f"{API}/judging", start_judging, methods=["POST"]),
    Route(f"{API}/judging/{{id}}", judging),
    Route(f"{API}/judging/{{id}}", grade, methods=["POST"]),
    Route(f"{API}/judging/{{id}}/undo", undo, methods=["POST"]),
    Route(f"{API}/swap", swap),
    Route(f"{API}/swap/rollback", roll_back, methods=["POST"]),
    Route(f"{API}/health", collection_health),
    Route(f"{BASE}/{{file:path}}", page),  # last: what is no route of the API is a file of the page
)
_ERRORS = (400, 401, 404, 413, 415, 422, 429, 500, 503)
_OPEN = (401, 429)
OPERATIONS = (
    Operation("get", f"{API}/state", "What is served, and what can be asked", State, errors=_OPEN),
    Operation("post", f"{API}/search", "Hits of one side, as a page shows them", Found, Question, errors=_ERRORS),
    Operation("post", f"{API}/locate", "Where a document stands, and why", Located, Wanted, errors=_ERRORS),
    Operation("post", f"{API}/grades", "What is judged of a query", Grades, JudgedQuestion, errors=_ERRORS),
    Operation("post", f"{API}/snippets", "A query in other words", Snippets, Question, errors=_ERRORS),
    Operation("post", f"{API}/document", "A document whole", ShownDocument, OneDocument, errors=_ERRORS),
    Operation("get", f"{API}/media", "A small picture of a document's media", query=OneMedia, errors=(404, *_OPEN)),
    Operation("post", f"{API}/export", "A view as one HTML file", asked=Exported, errors=_ERRORS),
    Operation("post", f"{API}/jobs", "Begin an evaluation, a tuning or a check", JobAnswer, NewJob, errors=_ERRORS),
    Operation("get", f"{API}/jobs/{{id}}", "How far a job is, and its result", JobAnswer, errors=(404, *_OPEN)),
    Operation("delete", f"{API}/jobs/{{id}}", "Cancel a job", JobAnswer, errors=(404, *_OPEN)),
    Operation("post", f"{API}/judging", "Begin to judge", JudgingAnswer, NewJudging, errors=(403, *_ERRORS)),
    Operation("get", f"{API}/judging/{{id}}", "The next pair, or the end", JudgingAnswer, errors=(403, 404, *_OPEN)),
    Operation("post", f"{API}/judging/{{id}}", "Save a grade", JudgingAnswer, NewGrade, errors=(403, 409, *_ERRORS)),
    Operation("post", f"{API}/judging/{{id}}/undo", "Undo a grade", JudgingAnswer, Nothing, errors=(403, *_ERRORS)),
    Operation(
        "get", f"{API}/swap", "The timeline of a swap", SwapAnswer, query=OneCollection, errors=(404, 503, *_OPEN)
    ),
    Operation("post", f"{API}/swap/rollback", "Roll a swap back", RolledBack, RollBack, errors=(403, 409, *_ERRORS)),
    Operation(
        "get",
        f"{API}/health",
        "What a collection counts of itself",
        HealthAnswer,
        query=OneCollection,
        errors=(404, *_OPEN),
    ),
)


def studio(
    *,
    queries: Sequence[Path] = (),
    judgements: Path | None = None,
    writes: bool = False,
    opened: Mapping[str, str] | None = None,
) -> Extension:
    """Studio, to be given to `diptych_serve.service.application.application` as its extension.

    Args:
        queries: folders with judged queries, or with queries to judge.
        judgements: the folder that judging saves to; without it nobody may judge.
        writes: whether a rollback may be asked for.
        opened: by collection, what programs on this machine give to `Collection.open`, for snippets.

    Raises:
        EvaluationError: a folder cannot be read.
    """
    jobs = Jobs()
    sessions = JudgingSessions(judgements, jobs) if judgements is not None else None
    context = Studio(QuerySets(queries, judgements), jobs, sessions, writes, opened or {})
    return Extension(
        routes=ROUTES,
        operations=OPERATIONS,
        middleware=[Middleware(Headers)],
        has_page=True,
        is_public=is_public,
        state={"studio": context},
        close=context.close,
    )
