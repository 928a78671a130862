"""`Serving`: what the routes of one service share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response

from diptych_serve.service.api_keys import Keys
from diptych_serve.service.limits import Limits
from diptych_serve.service.metrics import Metrics
from diptych_serve.service.model_batches import Batches
from diptych_serve.service.readiness import Readiness
from diptych_serve.service.served import Served
from diptych_serve.service.write_queue import Writes


@dataclass(frozen=True, slots=True)
class Serving:
    """Everything that a request may need."""

    served: Served
    keys: Keys
    limits: Limits
    metrics: Metrics
    batches: Batches
    readiness: Readiness
    writes: Writes | None = None  # None where nothing may be written
    started: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def of(cls, request: Request) -> Serving:
        """The `Serving` of the application that received the request."""
        return cast(Serving, request.app.state.serving)


def json_of(value: Any, status: int = 200) -> Response:
    """`value` as JSON; rows of numpy are lists of numbers."""
    return Response(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), status, media_type="application/json")
