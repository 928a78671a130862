"""Studio's routes of jobs, judging, swaps and state, the table of all, and `studio`, which adds them to the service.

`guarded` keeps browsers from running anything beside the built page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_type_hints

from pydantic import BaseModel, Field
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diptych import Collection, __version__
from diptych.errors import CollectionNotFound, DiptychError
from diptych.search.store_calls import read_store
from diptych.stores.server_errors import needs_answers
from diptych.swap import StepBack, rollback
from diptych_lab.judge.judging import drawn
from diptych_serve.service.admission import Refused
from diptych_serve.service.answers import Operation
from diptych_serve.service.application import Extension
from diptych_serve.service.context import json_of
from diptych_serve.service.requests import Body, accepted, read, read_query, require_question, require_room
from diptych_serve.studio.answers import (
    CollectionAnswer,
    CollectionFacts,
    Found,
    JobAnswer,
    JudgingAnswer,
    SideFacts,
    SlotFacts,
    State,
)
from diptych_serve.studio.collection import described
from diptych_serve.studio.context import Call, Studio, unless_gone
from diptych_serve.studio.display import fields_of
from diptych_serve.studio.evaluations import QuerySet, QuerySets, evaluation
from diptych_serve.studio.jobs import Jobs
from diptych_serve.studio.judging import JudgingSessions, Session, typed_queries
from diptych_serve.studio.search import JudgedQuestion, OneMedia, grades, locate, media, search
from diptych_serve.studio.sides import DocumentQuestion, Question, Side, SideId, side_of, sides_of
from diptych_serve.studio.snippets import snippets

BASE, API = "/studio", "/studio/api"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DATA_CSP = "default-src 'none'; frame-ancestors 'none'; sandbox"  # of answers that are no page
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
FOLDER = Path(__file__).parent
PAGES = (
    Route("/docs", RedirectResponse(f"{BASE}/#/docs"), methods=["GET"]),  # the page's view of /openapi.json
    Route(BASE, RedirectResponse(f"{BASE}/"), methods=["GET"]),  # the page's files are named relative to its folder
    Route(
        f"{BASE}/guide.html", FileResponse(FOLDER / "guide.html"), methods=["GET"]
    ),  # of docs/studio.md, by docs/guide.py
    Mount(BASE, GZipMiddleware(StaticFiles(directory=FOLDER / "page", html=True))),
)

SAMPLE = 50  # queries that are judged at most
Name: TypeAlias = Annotated[str, Field(max_length=1000)]


class OneCollection(Body):
    """A collection by its name."""

    collection: Name | None = None


class NewEvaluation(OneCollection):
    """`POST /studio/api/jobs`: an evaluation of two sides."""

    kind: Literal["evaluate"]
    judged: Name | None = None
    sides: Annotated[list[SideId], Field(min_length=2, max_length=2)]
    metric: Annotated[str, Field(max_length=100)] = "nDCG@10"
    slices: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field([], max_length=10)
    tenant: Name | None = None


class NewJudging(OneCollection):
    """`POST /studio/api/judging`: the queries of a set, or some of one's own, on two sides."""

    judged: Name | None = None
    queries: list[Annotated[str, Field(max_length=1_000_000)]] | None = None
    sides: Annotated[list[SideId], Field(min_length=2, max_length=2)]
    who: Annotated[str, Field(max_length=1000)]
    complete: bool = False
    tenant: Name | None = None


class NewGrade(Body):
    """`POST /studio/api/judging/ID`: a grade from 0, not relevant, to 3, exactly what was asked for; null skips."""

    query: Name
    document: Name
    grade: Annotated[int, Field(ge=0, le=3)] | None


class Nothing(Body):
    """An empty object."""


class RollBack(OneCollection):
    """`POST /studio/api/swap/rollback`: `confirm` is the collection's name, `seen` what `/collection` answered."""

    confirm: Name
    seen: Annotated[str, Field(max_length=100)] = ""
    why: Annotated[str, Field(max_length=500)] = ""


def start_job(call: Call, body: NewEvaluation) -> JobAnswer:
    """`POST /studio/api/jobs`. What is wrong with the request is raised here, before it waits for its turn."""
    collection = call.serving.served.collection(body.collection)
    sides, slices = _sides(collection, body.sides), tuple(dict.fromkeys(body.slices))
    work = evaluation(sides, _set(call, body.judged), body.metric, slices, body.tenant)
    jobs = call.studio.jobs
    return jobs.described(jobs.start(body.kind, work))


def job(call: Call, body: None) -> JobAnswer:
    """`GET /studio/api/jobs/ID`: how far it is, and its result."""
    return call.studio.jobs.described(call.studio.jobs.job(call.id))


def end_job(call: Call, body: None) -> JobAnswer:
    """`DELETE /studio/api/jobs/ID`: cancel it."""
    call.studio.jobs.job(call.id).cancel()
    return job(call, None)


def start_judging(call: Call, body: NewJudging) -> JudgingAnswer:
    """`POST /studio/api/judging`."""
    sessions = call.studio.require_judging()
    collection = call.serving.served.collection(body.collection)
    if (body.queries is None) == (body.judged is None):
        raise Refused(400, "judge either `queries` or those of a set, `judged`", code="invalid_value", param="judged")
    if body.queries is None:
        known = _set(call, body.judged).queries
    else:
        require_room(call.serving.limits, body.queries, param="queries")
        require_question(collection, body.queries)
        known = typed_queries(body.queries)
    sides, queries = _sides(collection, body.sides), tuple(drawn(known, SAMPLE, 0))
    options: dict[str, Any] = {"complete": body.complete, "tenant": body.tenant}
    return sessions.described(sessions.start(Session(collection, sides, queries, body.who.strip(), **options)))


def judging(call: Call, body: None) -> JudgingAnswer:
    """`GET /studio/api/judging/ID`: the next pair, or the verdict."""
    sessions = call.studio.require_judging()
    return sessions.described(sessions.session(call.id))


def grade(call: Call, body: NewGrade) -> JudgingAnswer:
    """`POST /studio/api/judging/ID`: save a grade; answers the next pair."""
    sessions = call.studio.require_judging()
    session = sessions.session(call.id)
    sessions.record(session, body.query, body.document, body.grade)
    return sessions.described(session)


def undo(call: Call, body: Nothing) -> JudgingAnswer:
    """`POST /studio/api/judging/ID/undo`: undo the judge's last grade; answers its pair."""
    sessions = call.studio.require_judging()
    session = sessions.session(call.id)
    pair = sessions.undo(session)
    answer = sessions.described(session, first=pair)
    return answer.model_copy(update={"undone": pair})


def collection_state(call: Call, body: OneCollection) -> CollectionAnswer:
    """`GET /studio/api/collection`: what a collection records of its swap and its vectors."""
    collection = call.serving.served.collection(body.collection)
    return needs_answers("try again once it does")(described)(collection, writes=call.studio.writes)


def roll_back(call: Call, body: RollBack) -> StepBack:
    """`POST /studio/api/swap/rollback`."""
    if not call.studio.writes:
        message = "Studio only reads\n  do: start it with --allow-writes, or run diptych rollback"
        raise Refused(403, message, code="read_only")
    collection = call.serving.served.collection(body.collection)
    if body.confirm != collection.name:
        message = f"a rollback is confirmed by the collection's name\n  expected: {collection.name}"
        raise Refused(400, message, code="not_confirmed", param="confirm")
    return rollback(collection.handle, why=body.why or "rolled back in Studio", later=True, seen=body.seen)


def _sides(collection: Collection, wanted: list[SideId]) -> tuple[Side, ...]:
    return tuple(side_of(collection, side) for side in wanted)


def _set(call: Call, name: str | None) -> QuerySet:
    """The queries of this name; of the only ones there are for None."""
    collections, sets = list(call.serving.served.collections.values()), call.studio.sets
    if name is None:
        names = sets.names(collections)
        if len(names) != 1:
            expected = ", ".join(names) or "none: start Studio with --queries FOLDER"
            message = f"which judged queries?\n  expected: {expected}"
            raise Refused(400, message, code="invalid_value", param="judged")
        name = names[0]
    return sets.get(name, collections)


def state(call: Call, body: None) -> State:
    """`GET /studio/api/state`."""
    studio, collections = call.studio, list(call.serving.served.collections.values())
    with ThreadPoolExecutor(len(collections) or 1) as pool:  # one store that does not answer delays no other
        described = list(pool.map(_described, collections))
    return State(
        version=__version__,
        key_required=bool(call.serving.keys),
        may_write=studio.writes,
        may_judge=studio.judging is not None,
        judged=studio.sets.described(collections),
        collections=described,
    )


def _described(collection: Collection) -> CollectionFacts:
    """One collection; with the error where it cannot be read."""
    try:
        view = collection.handle.now()
        slots = []
        for name, slot in view.slots.items():
            number, vector = (slot.generation.number, slot.generation.vector) if slot.generation else (None, None)
            of = slot.reading.modality
            slots.append(SlotFacts(name=name, kind=slot.kind, of=of, generation=number, vector=vector))
        return CollectionFacts(
            name=collection.name,
            documents=read_store(view, lambda: view.client.count(view.name)).count,
            sides=[SideFacts.model_validate(side) for side in sides_of(collection)],
            slots=slots,
            tenants=view.tenancy is not None,
            accepts=list(dict.fromkeys(accepted(collection))),
            fields=fields_of(view),
            limit=view.search_config.limit,
        )
    except CollectionNotFound:
        return CollectionFacts(name=collection.name, error="Nothing has been populated yet: diptych populate FILE")
    except DiptychError as error:
        return CollectionFacts(name=collection.name, error=str(error))


def _operation(
    method: str,
    path: str,
    summary: str,
    work: Callable[[Call, Any], BaseModel | StepBack],
    asked: type[BaseModel] | None = None,
    *,
    query: type[BaseModel] | None = None,
    aside: bool = False,
) -> Operation:
    """An operation of the API that answers what `work` returns, as JSON of the class that it says it returns.

    Args:
        method, path, summary, asked, query: as of an `Operation`.
        work: is given the call, and the body or the query; runs in a thread.
        aside: run it in Studio's own threads, because it takes longer than a search; dropped if the client leaves.
    """

    async def handler(request: Request) -> Response:
        call = Call.of(request)
        body: BaseModel | None = read_query(request, query) if query is not None else None
        if asked is not None:
            body = await read(request, asked, call.serving.limits)
        if not aside:
            return json_of(await asyncio.to_thread(work, call, body))
        pool, loop = call.studio.threads, asyncio.get_running_loop()
        return await unless_gone(request, loop.run_in_executor(pool, lambda: json_of(work(call, body))))

    answer = get_type_hints(work)["return"]
    return Operation(method, f"{API}{path}", summary, handler, answer, asked, query, errors=(403, 409))


OPERATIONS = (
    _operation("get", "/state", "What is served, and what can be asked", state),
    Operation("post", f"{API}/search", "Hits of one side, as a page shows them", search, Found, Question),
    _operation("post", "/locate", "Where a document stands, and why", locate, DocumentQuestion, aside=True),
    _operation("post", "/grades", "What is judged of a query", grades, JudgedQuestion),
    _operation("post", "/snippets", "A query in other words", snippets, Question, aside=True),
    Operation("get", f"{API}/media", "A small picture of a document's media", media, query=OneMedia),
    _operation("post", "/jobs", "Begin an evaluation", start_job, NewEvaluation),
    _operation("get", "/jobs/{id}", "How far a job is, and its result", job),
    _operation("delete", "/jobs/{id}", "Cancel a job", end_job),
    _operation("post", "/judging", "Begin to judge", start_judging, NewJudging),
    _operation("get", "/judging/{id}", "The next pair, or the end", judging),
    _operation("post", "/judging/{id}", "Save a grade", grade, NewGrade),
    _operation("post", "/judging/{id}/undo", "Undo a grade", undo, Nothing),
    _operation("get", "/collection", "Its swap and its vectors", collection_state, query=OneCollection),
    _operation("post", "/swap/rollback", "Roll a swap back", roll_back, RollBack),
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
        operations=OPERATIONS,
        pages=PAGES,
        middleware=[Middleware(guarded)],
        is_public=is_public,
        state={"studio": context},
        close=context.close,
    )


def guarded(app: ASGIApp) -> ASGIApp:
    """The application, with the headers that keep a browser in bounds on every answer of Studio, errors included."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers, is_page = MutableHeaders(scope=message), is_public(scope["path"])
                cache = {"Cache-Control": "no-cache" if is_page else "no-store"}
                for name, value in {
                    **HEADERS,
                    "Content-Security-Policy": CSP if is_page else DATA_CSP,
                    **cache,
                }.items():
                    headers.setdefault(name, value)
            await send(message)

        is_studios = scope["type"] == "http" and is_studio(scope["path"])
        await app(scope, receive, send_guarded if is_studios else send)

    return answer


def is_studio(path: str) -> bool:
    """Whether the path is one of Studio's."""
    return path in (BASE, "/docs") or path.startswith(f"{BASE}/")


def is_public(path: str) -> bool:
    """Whether the path is answered without a key: the page, which holds no data."""
    return is_studio(path) and path != API and not path.startswith(f"{API}/")
