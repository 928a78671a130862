"""`Extension`: further routes of a service, made by a package above it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.middleware import Middleware
from starlette.routing import Route

from diptych.service.routes.openapi import Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """What is added to the service's own routes.

    Args:
        routes: their errors are answered as the service's are.
        operations: of the OpenAPI document.
        middleware: around everything else.
        has_page: whether one of the routes is a page that asks the others from a browser.
        is_public: whether a path is answered without a key.
        state: what the routes find in `request.app.state`.
        close: ends what the routes began, before the collections are closed.
    """

    routes: Sequence[Route] = ()
    operations: Sequence[Operation] = ()
    middleware: Sequence[Middleware] = ()
    has_page: bool = False
    is_public: Callable[[str], bool] = lambda path: False
    state: Mapping[str, Any] = field(default_factory=dict)
    close: Callable[[], None] = lambda: None
