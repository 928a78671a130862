"""`Watch`: metrics and the access log, which holds no texts."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diptych.service.admission import UNCOUNTED
from diptych.service.route_context import Serving

LOG = logging.getLogger("diptych.access")
_MODEL = "/v1/models/"


class Watch:
    """Counts and times each request and writes a line about it: method, route, status, milliseconds.

    Args:
        app: what answers.
        serving: whose metrics.
        routes: the paths that are known; others are one, so that nobody fills the metrics with names.
    """

    def __init__(self, app: ASGIApp, serving: Serving, routes: Sequence[str]) -> None:
        self._app, self._metrics, self._routes = app, serving.metrics, frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begin, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, noting)
        finally:
            self._metrics.in_flight.dec()
            self._tell(scope, status, time.perf_counter() - begin)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        route = self._route(scope["path"])
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        level = logging.DEBUG if route in UNCOUNTED else logging.INFO
        LOG.log(level, "%s %s %d %.1f ms", scope["method"][:16], route, status, 1000 * seconds)

    def _route(self, path: str) -> str:
        if path.startswith(_MODEL):
            return f"{_MODEL}MODEL"
        return path if path in self._routes else "other"
