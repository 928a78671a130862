"""`application`: the service as an ASGI application, for `diptych serve` or any ASGI server.

An `Extension` is what another package adds to the service.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from diptych.errors import MissingExtra

try:
    import starlette as _needed  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtra(f"{__name__} needs starlette", got=str(error), do="pip install 'diptych[serve]'") from error

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import State
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diptych.errors import DiptychError
from diptych.runtime.panics import as_error, is_panic
from diptych_serve.service.access import Keys, Limits
from diptych_serve.service.admission import LOG, POLLED, Gate, Refused, refusal_of
from diptych_serve.service.answers import (
    Handler,
    Operation,
)
from diptych_serve.service.context import Readiness, Serving, Writes
from diptych_serve.service.routes import READING, WRITING
from diptych_serve.service.served import Batches, Metrics, Served

ACCESS_LOG = logging.getLogger("diptych.access")
_MODEL = "/v1/models/"


def application(
    served: Served,
    *,
    keys: Keys | None = None,
    limits: Limits | None = None,
    origins: Sequence[str] = (),
    hosts: Sequence[str] = (),
    writes: bool = False,
    extension: Extension | None = None,
) -> Starlette:
    """Build the service. It warms up what it serves at start, and closes it at the end.

    Args:
        served: collections, encoders and rerankers.
        keys: required of callers; without keys the server is open.
        limits: how much one request may ask.
        origins: web pages that may ask from a browser (CORS); none unless given.
        hosts: names by which it may be called; any unless given.
        writes: whether documents may be brought in.
        extension: further routes, such as those of `diptych_serve.studio`.
    """
    extension = extension or Extension()
    metrics = Metrics()
    readiness = Readiness(served, may_be_empty=writes)
    metrics.ready.set_function(lambda: readiness.state == "ready")
    writers = Writes() if writes else None
    serving = Serving(served, keys or Keys(), limits or Limits(), metrics, Batches(metrics), readiness, writers)
    operations = [*READING, *(WRITING if writes else ()), *extension.operations]
    routes: list[Route | Mount] = [
        *(Route(own.path, _answered(own.handler), methods=[own.method.upper()]) for own in operations),
        *extension.pages,
    ]
    page: dict[str, Any] = {"is_public": extension.is_public, "own_page": bool(extension.pages)}
    cors: dict[str, Any] = {"allow_methods": ["GET", "POST", "PUT"], "allow_headers": ["Authorization", "Content-Type"]}
    app = Starlette(
        routes=routes,
        middleware=[
            *extension.middleware,
            Middleware(watched, metrics=metrics, routes=routes),
            *([Middleware(CORSMiddleware, allow_origins=origins, **cors)] if origins else []),
            Middleware(Gate, keys=serving.keys, hosts=hosts, origins=origins, **page),
        ],
        exception_handlers={HTTPException: _no_such_route},
        lifespan=_lifespan,
    )
    app.state = State(dict(extension.state, serving=serving, extension=extension, operations=operations))
    return app


def _answered(handler: Handler) -> Handler:
    """The handler, with errors turned into answers that say what went wrong and what to do."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except BaseException as error:
            if not isinstance(error, Exception) and not is_panic(error):
                raise
            refused = refusal_of(as_error(error))
            if refused.status >= 500 and refused.status != 501:
                Serving.of(request).readiness.suspect()
            if refused.status >= 500 and isinstance(error, DiptychError):
                LOG.warning("%s: %s (%s)", type(error).__name__, error.what, error.where)  # `got` may be a text
            return refused.response()

    return answer


_WRITES = "diptych serve --allow-writes, in Python application(..., writes=True)"
_STUDIO = "diptych studio, in Python application(..., extension=diptych_serve.studio.routes.studio())"
SWITCHED_OFF = {"/documents": _WRITES, "/populate": _WRITES, "/docs": _STUDIO, "/studio": _STUDIO}


async def _no_such_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    shown = [f"{own.method.upper()} {own.path}" for own in request.app.state.operations]
    served_routes = ", ".join([*shown, *(f"GET {own.path}" for own in request.app.state.extension.pages)])
    off = SWITCHED_OFF.get(request.url.path.rstrip("/")) if error.status_code == 404 else None
    what, do = ("this route is switched off", f"\n  do: switch it on by {off}") if off else (error.detail, "")
    message = f"{what}\n  where: {request.method} {request.url.path[:80]}\n  expected: {served_routes}{do}"
    return Refused(error.status_code, message, code="no_such_route", headers=error.headers).response()


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    serving: Serving = app.state.serving
    serving.readiness.start()
    try:
        yield
    finally:
        await run_in_threadpool(app.state.extension.close)
        await run_in_threadpool(serving.readiness.stop)
        if serving.writes is not None:  # before the collection that it writes to is closed
            await run_in_threadpool(serving.writes.stop)
        await run_in_threadpool(serving.served.close)


def watched(app: ASGIApp, metrics: Metrics, routes: Sequence[Route | Mount]) -> ASGIApp:
    """The application, of which each request is counted, timed and logged: method, route, status and milliseconds.

    Nothing of a text is logged. Paths that are none of the routes are one, so that nobody fills the metrics with names.
    """
    known = {route.path for route in routes}
    patterns = [route for route in routes if "{" in route.path]

    def route_of(path: str) -> str:
        if path.startswith(_MODEL):
            return f"{_MODEL}MODEL"
        matching = (route.path for route in patterns if route.path_regex.match(path))
        return path if path in known else next(matching, "other")

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        begin, status, route = time.perf_counter(), 500, route_of(scope["path"])

        async def noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            with metrics.in_flight.track_inprogress():
                await app(scope, receive, noting)
        finally:
            seconds = time.perf_counter() - begin
            metrics.requests.labels(route, str(status)).inc()
            metrics.seconds.labels(route).observe(seconds)
            level = logging.DEBUG if route in POLLED else logging.INFO
            ACCESS_LOG.log(level, "%s %s %d %.1f ms", scope["method"][:16], route, status, 1000 * seconds)

    return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """What is added to the service's own routes.

    Args:
        operations: routes of the OpenAPI document; their errors are answered as the service's are.
        pages: further routes, looked at after the operations, which they may ask from a browser.
        middleware: around everything else.
        is_public: whether a path is answered without a key.
        state: what the routes find in `request.app.state`.
        close: ends what the routes began, before the collections are closed.
    """

    operations: Sequence[Operation] = ()
    pages: Sequence[Route | Mount] = ()
    middleware: Sequence[Middleware] = ()
    is_public: Callable[[str], bool] = lambda path: False
    state: Mapping[str, Any] = field(default_factory=dict)
    close: Callable[[], None] = lambda: None
