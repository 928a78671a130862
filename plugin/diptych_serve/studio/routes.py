"""Studio's routes of jobs, judging, swaps and state, the table of all, and `studio`, which adds them to the service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from diptych import Collection, __version__
from diptych.config import load_config
from diptych.errors import CollectionNotFound, ConfigError, DiptychError
from diptych.handle.snapshot import View
from diptych.search.store_calls import read_store
from diptych.stores.server_errors import needs_answers
from diptych.swap import rollback
from diptych_lab.judge.judging import drawn
from diptych_lab.tune import Budget, ConfigChange, SearchReport, SearchRow, config_change, search_change, tune_search
from diptych_lab.tune.search_report import pipeline_label
from diptych_serve.service.admission import Refused
from diptych_serve.service.answers import Operation
from diptych_serve.service.application import Extension
from diptych_serve.service.context import Serving, json_of
from diptych_serve.service.requests import Body, accepted, read, read_query, require_room, require_words
from diptych_serve.studio.answers import (
    Found,
    Grades,
    HealthAnswer,
    JobAnswer,
    JudgingAnswer,
    Located,
    RolledBack,
    ShownDocument,
    Snippets,
    State,
    SwapAnswer,
)
from diptych_serve.studio.context import Studio
from diptych_serve.studio.display import fields_of
from diptych_serve.studio.evaluations import EvaluationPlan, QuerySet, QuerySets, evaluated, names_of
from diptych_serve.studio.health import checked, health
from diptych_serve.studio.jobs import Job, Jobs, Work
from diptych_serve.studio.judging import Comparison, JudgingSessions, typed_queries
from diptych_serve.studio.page import API, BASE, DOCS, Exported, Headers, export, is_public, page, to_docs, to_page
from diptych_serve.studio.search import JudgedQuestion, OneDocument, OneMedia, document, grades, locate, media, search
from diptych_serve.studio.sides import DocumentQuestion, Question, Side, SideId, side_of, sides_of
from diptych_serve.studio.snippets import snippets
from diptych_serve.studio.swaps import timeline

Z = 1.96  # standard errors on either side of a mean that a 95% interval has
Name: TypeAlias = Annotated[str, Field(max_length=1000)]
_OPTIONS = {  # which keys each kind of job takes, beside `kind` and `collection`
    "evaluate": {"judged", "sides", "metric", "limit", "slices", "tenant"},
    "tune": {"judged", "budget_ms"},
    "health": {"judged", "sample"},
}


class NewJob(Body):
    """`POST /studio/api/jobs`: an evaluation of one or two sides, a tuning, or a check of a collection."""

    kind: Literal["evaluate", "tune", "health"]
    collection: Name | None = None
    judged: Name | None = None
    sides: Annotated[list[SideId], Field(min_length=1, max_length=2)] | None = None
    metric: Annotated[str, Field(max_length=100)] = "nDCG@10"
    limit: Annotated[int, Field(ge=1, le=100)] = 10
    slices: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field([], max_length=10)
    tenant: Name | None = None
    budget_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    sample: Annotated[int, Field(ge=1, le=1000)] = 50


class NewJudging(Body):
    """`POST /studio/api/judging`: the queries of a set, or some of one's own, on two sides or more."""

    collection: Name | None = None
    judged: Name | None = None
    queries: list[Annotated[str, Field(max_length=1_000_000)]] | None = None
    sides: Annotated[list[SideId], Field(min_length=2, max_length=4)]
    who: Annotated[str, Field(max_length=1000)]
    metric: Annotated[str, Field(max_length=100)] = "nDCG@10"
    sample: Annotated[int, Field(ge=1, le=1000)] = 50
    seed: int = 0
    complete: bool = False
    tenant: Name | None = None


class NewGrade(Body):
    """`POST /studio/api/judging/ID`: a grade from 0, not relevant, to 3, exactly what was asked for; null skips."""

    query: Name
    document: Name
    grade: Annotated[int, Field(ge=0, le=3)] | None


class Nothing(Body):
    """An empty object."""


class RollBack(Body):
    """`POST /studio/api/swap/rollback`: `confirm` is the collection's name, `seen` what `/swap` answered."""

    collection: Name | None = None
    confirm: Name
    seen: Annotated[str, Field(max_length=100)] = ""
    why: Annotated[str, Field(max_length=500)] = ""


class OneCollection(Body):
    """A collection by its name."""

    collection: Name | None = None


async def start_job(request: Request) -> Response:
    """`POST /studio/api/jobs`."""
    serving, studio = Serving.of(request), Studio.of(request)
    body = await read(request, NewJob, serving.limits)
    collection = serving.served.collection(body.collection)
    work = await asyncio.to_thread(_work, serving, studio, collection, body)
    job = studio.jobs.start(body.kind, work)
    return json_of(studio.jobs.described(job))


async def job(request: Request) -> Response:
    """`GET /studio/api/jobs/ID`: how far it is, and its result."""
    jobs = Studio.of(request).jobs
    found = jobs.job(request.path_params["id"])
    return await asyncio.to_thread(lambda: json_of(jobs.described(found)))


async def end_job(request: Request) -> Response:
    """`DELETE /studio/api/jobs/ID`: cancel it."""
    jobs = Studio.of(request).jobs
    found = jobs.job(request.path_params["id"])
    found.cancel()
    return await asyncio.to_thread(lambda: json_of(jobs.described(found)))


async def start_judging(request: Request) -> Response:
    """`POST /studio/api/judging`."""
    serving, studio = Serving.of(request), Studio.of(request)
    sessions = studio.require_judging()
    body = await read(request, NewJudging, serving.limits)
    collection = serving.served.collection(body.collection)
    if (body.queries is None) == (body.judged is None):
        raise Refused(400, "judge either `queries` or those of a set, `judged`", code="invalid_value", param="judged")
    if body.queries is not None:
        require_room(serving.limits, body.queries, param="queries")
        require_words(body.queries, accepted(collection), where=f"collection {collection.name!r}")

    def begin() -> dict[str, Any]:
        known = typed_queries(body.queries) if body.queries is not None else _set(serving, studio, body.judged).queries
        options: dict[str, Any] = {"seed": body.seed, "complete": body.complete, "tenant": body.tenant}
        queries = tuple(drawn(known, body.sample, body.seed))
        sides = _sides(collection, body.sides)
        wanted = Comparison(collection, sides, queries, body.who.strip(), body.metric, **options)
        return sessions.described(sessions.start(wanted))

    return json_of(await asyncio.to_thread(begin))


async def judging(request: Request) -> Response:
    """`GET /studio/api/judging/ID`: the next pair, or the verdict."""
    sessions = Studio.of(request).require_judging()
    session = sessions.session(request.path_params["id"])
    return json_of(await asyncio.to_thread(sessions.described, session))


async def grade(request: Request) -> Response:
    """`POST /studio/api/judging/ID`: save a grade; answers the next pair."""
    sessions = Studio.of(request).require_judging()
    session = sessions.session(request.path_params["id"])
    body = await read(request, NewGrade, Serving.of(request).limits)

    def save() -> dict[str, Any]:
        sessions.record(session, body.query, body.document, body.grade)
        return sessions.described(session)

    return json_of(await asyncio.to_thread(save))


async def undo(request: Request) -> Response:
    """`POST /studio/api/judging/ID/undo`: undo the judge's last grade; answers its pair."""
    sessions = Studio.of(request).require_judging()
    session = sessions.session(request.path_params["id"])
    await read(request, Nothing, Serving.of(request).limits)

    def undone() -> dict[str, Any]:
        pair = sessions.undo(session)
        facts = None if pair is None else {"query": pair[0], "document": pair[1]}
        return {**sessions.described(session, first=pair), "undone": facts}

    return json_of(await asyncio.to_thread(undone))


async def swap(request: Request) -> Response:
    """`GET /studio/api/swap`: the timeline of a collection's swap."""
    studio = Studio.of(request)
    return await _of_collection(request, partial(timeline, rates=studio.rates, writes=studio.writes))


async def roll_back(request: Request) -> Response:
    """`POST /studio/api/swap/rollback`."""
    serving, studio = Serving.of(request), Studio.of(request)
    if not studio.writes:
        message = "Studio only reads\n  do: start it with --allow-writes, or run diptych rollback"
        raise Refused(403, message, code="read_only")
    body = await read(request, RollBack, serving.limits)
    collection = serving.served.collection(body.collection)
    if body.confirm != collection.name:
        message = f"a rollback is confirmed by the collection's name\n  expected: {collection.name}"
        raise Refused(400, message, code="not_confirmed", param="confirm")
    why = body.why or "rolled back in Studio"
    done = await asyncio.to_thread(rollback, collection.handle, why=why, later=True, seen=body.seen)
    return json_of(asdict(done))


async def collection_health(request: Request) -> Response:
    """`GET /studio/api/health`: what a collection records and counts about itself."""
    return await _of_collection(request, health)


async def _of_collection(request: Request, described: Callable[[Collection], dict[str, Any]]) -> Response:
    body = read_query(request, OneCollection)
    collection = Serving.of(request).served.collection(body.collection)
    answered = needs_answers("try again once it does")(described)
    return json_of(await asyncio.to_thread(answered, collection))


def _work(serving: Serving, studio: Studio, collection: Collection, body: NewJob) -> Work:
    """The work of a job; what is wrong with the request is raised here, before it waits for its turn."""
    taken = _OPTIONS[body.kind] | {"kind", "collection"}
    if needless := sorted(body.model_fields_set - taken):
        message = f"a job of kind {body.kind!r} has no {', '.join(needless)}\n  expected: {', '.join(sorted(taken))}"
        raise Refused(400, message, code="invalid_value", param=needless[0])
    if body.kind == "health":
        asked = None if body.judged is None else _set(serving, studio, body.judged)
        return lambda job: checked(collection, asked, body.sample, job)
    judged = _set(serving, studio, body.judged)
    judged.judged()
    if body.kind == "tune":
        return lambda job: tuned(collection, judged, body.budget_ms, job)
    sides = _sides(collection, body.sides or ["pipeline"])
    names_of(sides)
    slices = tuple(dict.fromkeys(body.slices))
    wanted = EvaluationPlan(collection, sides, judged, body.metric, body.limit, slices, body.tenant)
    wanted.require()
    return lambda job: evaluated(wanted, job)


def _sides(collection: Collection, wanted: list[SideId]) -> tuple[Side, ...]:
    return tuple(side_of(collection, side) for side in wanted)


def _set(serving: Serving, studio: Studio, name: str | None) -> QuerySet:
    """The queries of this name; of the only ones there are for None."""
    collections = list(serving.served.collections.values())
    if name is None:
        names = studio.sets.names(collections)
        if len(names) != 1:
            expected = ", ".join(names) or "none: start Studio with --queries FOLDER"
            message = f"which judged queries?\n  expected: {expected}"
            raise Refused(400, message, code="invalid_value", param="judged")
        name = names[0]
    return studio.sets.get(name, collections)


def tuned(collection: Collection, judged: QuerySet, budget_ms: float | None, job: Job) -> dict[str, Any]:
    """What the tuner found, as JSON values. The collection is only read, and no config is written.

    Args:
        collection: whose search is tuned.
        judged: queries with judgements.
        budget_ms: the longest time of the median query; None for no limit.
        job: is told the progress.

    Raises:
        EvaluationError, TuneError, TenantError: there is nothing to choose by, or between.
        JobCancelled: nobody wants it any more.
    """
    queries, qrels = judged.judged()
    job.begin("preparing", None)
    found = tune_search(collection.handle, queries, qrels, budget=Budget(budget_ms), progress=job)
    job.begin("writing the changes of the config", None)
    changes, remark = _changes(collection, found)
    chosen = changes.get(found.chosen)
    left_out = [f"{name} is left out: its scores cannot be computed once" for name in found.left_out]
    return {
        "verdict": found.verdict,
        "baseline": found.present,
        "chosen": found.chosen,
        "passed": found.passed,
        "queries": found.queries,
        "gains": [f"{gain.name}: {gain.mean:+z.4f} [{gain.low:+z.4f}, {gain.high:+z.4f}]" for gain in found.gains],
        "trials": [_trial(row, n, found, changes.get(n)) for n, row in enumerate(found.rows)],
        "diff": _diff(chosen) if chosen and found.passed else "",
        "patch": any(change.patch for change in changes.values()),
        "file": path.name if (path := _file(collection)) else "",
        "remarks": [*left_out, *([remark] if remark else [])],
        "seconds": found.seconds,
    }


def _trial(row: SearchRow, number: int, found: SearchReport, change: ConfigChange | None) -> dict[str, Any]:
    return {
        "label": pipeline_label(row.pipeline),
        "quality": row.value,
        "low": row.value - Z * row.error,
        "high": row.value + Z * row.error,
        "milliseconds": row.milliseconds,
        "front": row.front,
        "chosen": number == found.chosen,
        "tuned": number == found.tuned,
        "present": number == found.present,
        "diff": _diff(change) if change else "",
    }


def _diff(change: ConfigChange) -> str:
    return change.patch or change.diff


def _changes(collection: Collection, found: SearchReport) -> tuple[dict[int, ConfigChange], str]:
    """The change of the config for each pipeline that is chosen or on the front, and why there is none."""
    wanted = {found.chosen, found.tuned, *(n for n, row in enumerate(found.rows) if row.front)} - {found.present}
    try:
        path = _file(collection)
        if path is None:
            settings = collection.handle.search_config
            return {n: search_change(settings, found, row=n) for n in wanted}, ""
        _require_same(collection, path)
        registry = collection.handle.registry
        return {n: config_change(path, found, registry, row=n) for n in wanted}, ""
    except (DiptychError, OSError) as error:
        return {}, f"no diff of the config: {error}"


def _file(collection: Collection) -> Path | None:
    """The file of the collection's config; None where it was opened without one."""
    config = collection.handle.config
    return config.source.path if config is not None else None


def _require_same(collection: Collection, path: Path) -> None:
    """Raise ConfigError if the file says something else than what is served."""
    config = collection.handle.config
    if config is None or load_config(path).digest() != config.digest():
        do = "restart Studio, which then reads the file again"
        raise ConfigError("the file has changed since Studio read it", where=path, do=do)
    if collection.handle.search_config.rerank != config.search.rerank:
        do = "the collection was changed meanwhile: see diptych plan, then start Studio again"
        raise ConfigError("the collection has other rerankers than the file", where=path, do=do)


async def state(request: Request) -> Response:
    """`GET /studio/api/state`."""
    serving, studio = Serving.of(request), Studio.of(request)
    collections = [asyncio.to_thread(_described, collection) for collection in serving.served.collections.values()]
    return json_of(
        {
            "version": __version__,
            "key_required": bool(serving.keys),
            "may": {"write": studio.writes, "judge": studio.judging is not None},
            "judged": await asyncio.to_thread(studio.sets.described, list(serving.served.collections.values())),
            "collections": await asyncio.gather(*collections),
        }
    )


def _described(collection: Collection) -> dict[str, Any]:
    """One collection; without slots while nothing has been populated, and with the error where it cannot be read."""
    empty = {"documents": 0, "sides": [], "slots": [], "tenants": False, "accepts": [], "fields": [], "limit": 0}
    try:
        view = collection.handle.now()
        return {"name": collection.name, **_facts(collection, view), "error": None}
    except CollectionNotFound:
        return {"name": collection.name, **empty, "error": "Nothing has been populated yet: diptych populate FILE"}
    except DiptychError as error:
        return {"name": collection.name, **empty, "error": str(error)}


def _facts(collection: Collection, view: View) -> dict[str, Any]:
    slots = [
        {
            "name": name,
            "kind": slot.kind,
            "of": slot.reading.modality,
            "adapter": slot.config.adapter,
            "generation": slot.generation.number if slot.generation else None,
            "vector": slot.generation.vector if slot.generation else None,
        }
        for name, slot in view.slots.items()
    ]
    return {
        "documents": read_store(view, lambda: view.client.count(view.name)).count,
        "sides": [side.facts for side in sides_of(collection)],
        "slots": slots,
        "tenants": view.tenancy is not None,
        "accepts": list(dict.fromkeys(accepted(collection))),
        "fields": fields_of(view),
        "limit": view.search_config.limit,
    }


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
    Operation("post", f"{API}/locate", "Where a document stands, and why", Located, DocumentQuestion, errors=_ERRORS),
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
