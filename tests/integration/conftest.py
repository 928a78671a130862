"""A small server of Qdrant's routes, for what only shows over the wire or between processes.

No Qdrant server is at hand. The routes of the embedded store answer, with local mode behind them, and some more that a
cluster has; they take and give JSON only.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias
from urllib.parse import urlencode

import pytest
from qdrant_client import QdrantClient, models

from diptych.errors import StoreUnavailable
from diptych.stores.edge import rest
from diptych.stores.edge.rest.request import Request
from diptych.stores.edge.rest.routes import NoRoute

Body: TypeAlias = dict[str, Any]
SPREAD = ("shard_number", "sharding_method", "replication_factor", "write_consistency_factor")


class Routes(rest.Routes):
    """Qdrant's routes onto a store in memory.

    Args:
        names: whether vectors can be added to a collection and dropped from it, as since 1.18.

    `url` is where they are served, `failures` how many writes are refused before one is taken, `requests` what came:
    method, path with query, body.
    """

    def __init__(self, *, names: bool = True) -> None:
        self.store, self.lock, self.failures, self.url = QdrantClient(":memory:"), threading.RLock(), 0, ""
        self._names, self.requests = names, list[tuple[str, str, Body]]()
        self._made: dict[str, models.CreateCollection] = {}
        self._keys: dict[str, list[models.ShardKeyDescription]] = {}
        further = {
            ("GET", "/collections/{}"): self._collection,
            ("PUT", "/collections/{}"): self._create,
            ("PUT", "/collections/{}/shards"): self._add_key,
            ("GET", "/collections/{}/shards"): self._shard_keys,
            ("PUT", "/collections/{}/index"): self._index,
        }
        super().__init__(self.store, further)

    def answer(self, method: str, path: str, body: Any, query: Mapping[str, str]) -> Any:
        """The result of a request, which is noted; local mode takes one at a time."""
        with self.lock:
            self.requests.append((method, f"{path}?{urlencode(query)}" if query else path, body or {}))
            if self.failures and method == "PUT":
                self.failures -= 1
                raise Overloaded("overloaded")
            if "/vectors/" in path and method != "POST" and not self._names:
                raise NoRoute(path)
            return super().answer(method, path, body, query)

    def _collection(self, request: Request) -> Any:
        name = request.name
        info = self.store.get_collection(name)
        made = self._made[name].model_dump(include=set(SPREAD), exclude_none=True) if name in self._made else {}
        params = info.config.params.model_copy(update=made)
        return info.model_copy(update={"config": info.config.model_copy(update={"params": params})})

    def _create(self, request: Request) -> Any:
        given = request.read(models.CreateCollection)
        self._made[request.name] = given
        return self.store.create_collection(request.name, given.vectors, given.sparse_vectors, metadata=given.metadata)

    def _add_key(self, request: Request) -> Any:
        key = models.ShardKeyDescription(key=request.body["shard_key"])
        self._keys.setdefault(request.name, []).append(key)
        return True

    def _shard_keys(self, request: Request) -> Any:
        return models.ShardKeysResponse(shard_keys=self._keys.get(request.name))

    def _index(self, request: Request) -> Any:
        return models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)


class Overloaded(StoreUnavailable):
    """The server has too much to do just now."""


@contextmanager
def served(routes: Routes) -> Iterator[Routes]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = rest.RestServer(listening, lambda: routes)
    routes.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.start()
    try:
        yield routes
    finally:
        server.close()


@pytest.fixture
def small_server() -> Iterator[Callable[..., Routes]]:
    """`small_server(names=True).url`: a server that is up until the test ends."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(served(Routes(**options)))
