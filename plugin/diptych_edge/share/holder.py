"""Serves other processes: the holder at the store's socket, any client at a port. Qdrant's routes and the engine's."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import StoreError, StoreUnavailable
from diptych.runtime.sockets import host_name
from diptych_edge.share.address import TOKEN_HEADER, Address, forget, listen, may_connect

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych_edge.rest.request import Request, Route
    from diptych_edge.rest.routes import Routes

LOCAL, IDENTITY = "127.0.0.1", "/edge"
_RUNS = 256  # optimisations whose end may still be asked for
_LOOK = 5.0  # seconds that a question for the end of an optimisation waits


class Holder:
    """Serves requests at the store's address until `close`.

    Args:
        root: the store.
        client: creates the `EdgeClient` that serves the calls, at the first connection.

    Raises:
        OSError: no socket can be created.
    """

    def __init__(self, root: Path, client: Callable[[], QdrantBase]) -> None:
        from diptych_edge.rest.server import RestServer

        self._root, self._client = root, client
        listener, self.address = listen(root)
        self._server = RestServer(listener, self._routes, admits=may_connect, permits=self._permits)
        self._server.start()

    def close(self) -> None:
        """Stop, after running requests have been answered."""
        forget(self._root, self.address)
        self._server.close()

    def leave_to_parent(self) -> None:
        """In a forked process: close the copies of the parent's sockets."""
        self._server.leave_to_parent()

    def _permits(self, handler: Any) -> bool:
        """At a Unix socket, the mode of its file and `may_connect` have decided."""
        return not self.address.port or self.address.accepts(handler.headers.get(TOKEN_HEADER))

    def _routes(self) -> Routes:
        from diptych_edge.rest.routes import Routes

        identity = {"token": self.address.token, "process": os.getpid(), "path": str(self._root)}
        return Routes(self._client(), {("GET", IDENTITY): lambda request: identity, **engine_routes()})


@contextmanager
def serve_at(port: int, client: QdrantBase, *, has_key: Callable[[str], bool] | None = None) -> Iterator[Address]:
    """Serve Qdrant's REST API at a local port until the end of the block; port 0 takes a free one.

    Requests must send the address's token in the header `api-key`: any user of the machine can connect to a port.

    Args:
        has_key: whether the value of that header is valid, in place of the token.

    Raises:
        StoreError: the port is taken.
    """
    from diptych_edge.rest import RestServer, Routes

    try:
        listener = socket.create_server((LOCAL, port), backlog=128)
    except OSError as error:
        do = "choose another port"
        raise StoreError("cannot listen at this port", where=f"{LOCAL}:{port}", got=error, do=do) from error
    address = Address(port=listener.getsockname()[1], token="" if has_key else secrets.token_urlsafe(32))

    def permits(handler: Any) -> bool:
        key = handler.headers.get(TOKEN_HEADER)
        if has_key is not None:
            return has_key(key or "")
        host = host_name(",".join(handler.headers.get_all("host", ())))
        return host in ("localhost", LOCAL) and "origin" not in handler.headers and address.accepts(key)

    server = RestServer(listener, lambda: Routes(client, engine_routes()), permits=permits)
    server.start()
    try:
        yield address
    finally:
        server.close()


def engine_routes() -> dict[tuple[str, str], Route]:
    """The calls of `EdgeClient` beyond Qdrant's interface, as routes below `/edge`."""
    # Another holder may be asked for a run of this one, so its numbers must not be those of others.
    prefix, numbers, runs = secrets.token_hex(4), count(1), dict[str, Future[bool]]()

    def optimize(request: Request) -> str:
        client: Any = request.client
        run_id = f"{prefix}-{next(numbers)}"
        runs[run_id] = client.optimize(request.name, wait=False)
        for oldest in list(runs)[:-_RUNS]:  # nobody has fetched their results
            runs.pop(oldest, None)
        return run_id

    def state(request: Request) -> dict[str, Any]:
        name, run_id = request.names
        run = runs.get(run_id)
        if run is None:
            raise StoreUnavailable("this process has no such optimisation", got=run_id, do="optimize again")
        try:
            built = run.result(_LOOK)
        except TimeoutError:
            running = request.client.get_optimizations(name).running
            return {"done": False, "built": False, "stage": running[0].progress.name if running else "done"}
        except BaseException:
            runs.pop(run_id, None)
            raise
        runs.pop(run_id, None)
        return {"done": True, "built": built, "stage": "done"}

    return {
        ("GET", "/edge/collections/{}/metadata"): lambda request: _edge(request).get_metadata(request.name),
        ("GET", "/edge/collections/{}/needs_optimizing"): lambda request: _edge(request).needs_optimizing(request.name),
        ("POST", "/edge/collections/{}/optimize"): optimize,
        ("GET", "/edge/collections/{}/optimize/{}"): state,
    }


def _edge(request: Request) -> Any:
    return request.client
