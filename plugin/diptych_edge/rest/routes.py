"""Maps Qdrant's routes to calls of a client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

from diptych_edge.rest import collections, points
from diptych_edge.rest.request import Request, Route

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

Table: TypeAlias = Mapping[tuple[str, str], Route]


class NoRoute(Exception):
    """There is no such route."""


class Routes:
    """Answers requests by calls of `client`.

    Args:
        client: any client with qdrant-client's interface.
        further: additional routes by method and path; `{}` stands for a name.
    """

    def __init__(self, client: QdrantBase, further: Table | None = None) -> None:
        self.client = client
        self._routes: dict[tuple[str, int], list[tuple[list[str], Route]]] = {}
        for (method, path), route in {**collections.ROUTES, **points.ROUTES, **(further or {})}.items():
            pattern = path.strip("/").split("/")
            self._routes.setdefault((method, len(pattern)), []).append((pattern, route))

    def answer(self, method: str, path: str, body: Any, query: Mapping[str, str]) -> Any:
        """The result of a request.

        Raises:
            NoRoute: there is no such route.
            DiptychError, ValueError: as the client refuses the call.
        """
        segments = path.strip("/").split("/")
        for pattern, route in self._routes.get((method, len(segments)), ()):
            if all(part in ("{}", segment) for part, segment in zip(pattern, segments, strict=True)):
                names = (unquote(segment) for part, segment in zip(pattern, segments, strict=True) if part == "{}")
                return route(Request(self.client, tuple(names), body, query))
        raise NoRoute(f"{method} {path}")
