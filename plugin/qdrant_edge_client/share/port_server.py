"""Serves an embedded store at a local port, for programs that cannot use Unix sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qdrant_edge_client.errors import StoreError
from qdrant_edge_client.rest import RestServer, Routes
from qdrant_edge_client.share.address import TOKEN_HEADER
from qdrant_edge_client.share.holder import engine_routes

if TYPE_CHECKING:
    from qdrant_edge_client.share.client import SharedEdgeClient

LOCAL = "127.0.0.1"
_NAMES = ("localhost", LOCAL)


@dataclass(frozen=True, slots=True)
class Served:
    """The address of a served store."""

    url: str


@contextmanager
def serve_at(port: int, client: SharedEdgeClient, *, has_key: Callable[[str], bool] | None = None) -> Iterator[Served]:
    """Serve Qdrant's REST API at a local port until the end of the block; port 0 takes a free one.

    Without keys, requests from web pages are refused: those for another host name, and those with an `Origin`.

    Args:
        has_key: whether the value of a request's header `api-key` is valid; None lets all requests in.

    Raises:
        StoreError: the port is taken.
    """
    try:
        listener = socket.create_server((LOCAL, port), backlog=128)
    except OSError as error:
        do = "choose another port"
        raise StoreError("cannot listen at this port", where=f"{LOCAL}:{port}", got=error, do=do) from error

    def permits(handler: Any) -> bool:
        if has_key is not None:
            return has_key(handler.headers.get(TOKEN_HEADER) or "")
        name = (handler.headers.get("host") or "").rpartition(":")
        return (name[0] or name[2]) in _NAMES and "origin" not in handler.headers

    server = RestServer(listener, lambda: Routes(client, engine_routes()), permits=permits)
    url = f"http://{LOCAL}:{listener.getsockname()[1]}"
    server.start()
    try:
        yield Served(url)
    finally:
        server.close()
