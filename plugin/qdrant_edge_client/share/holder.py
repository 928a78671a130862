"""Serves the other processes from the holder: Qdrant's routes, and engine routes that Qdrant does not have."""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdrant_edge_client.errors import StoreUnavailable
from qdrant_edge_client.share.address import TOKEN_HEADER, forget, listen, may_connect

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from qdrant_edge_client.rest.request import Request, Route
    from qdrant_edge_client.rest.routes import Routes

IDENTITY = "/edge"
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
        from qdrant_edge_client.rest.server import RestServer

        self._root, self._client = root, client
        listener, self.address = listen(root)
        permits = self._has_token if self.address.port else _anybody
        self._server = RestServer(listener, self._routes, admits=may_connect, permits=permits)
        self._server.start()

    def close(self) -> None:
        """Stop, after running requests have been answered."""
        forget(self._root, self.address)
        self._server.close()

    def leave_to_parent(self) -> None:
        """In a forked process: close the copies of the parent's sockets."""
        self._server.leave_to_parent()

    def _routes(self) -> Routes:
        from qdrant_edge_client.rest.routes import Routes

        identity = {"token": self.address.token, "process": os.getpid(), "path": str(self._root)}
        return Routes(self._client(), {("GET", IDENTITY): lambda request: identity, **engine_routes()})

    def _has_token(self, handler: Any) -> bool:
        token = handler.headers.get(TOKEN_HEADER) or ""
        return hmac.compare_digest(token.encode(), self.address.token.encode())  # text must be ASCII, bytes need not


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


def _anybody(handler: Any) -> bool:
    return True  # the socket's file and `may_connect` have decided already
