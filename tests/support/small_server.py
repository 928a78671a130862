"""A small server of Qdrant's routes, for what only shows over the wire or between processes.

No Qdrant server is at hand. The routes of the embedded store answer, with local mode behind them, and some more that a
cluster has; they take and give JSON only. `crash` loses what a server would not have flushed, and replays its log as
Qdrant does: against the vectors that the collection has by then.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlencode

from qdrant_client import QdrantClient, models

from diptych.errors import StoreUnavailable
from diptych.stores.retired_vectors import existing
from diptych_edge import rest
from diptych_edge.rest.routes import NoRoute, Request

Body: TypeAlias = dict[str, Any]
SPREAD = ("shard_number", "sharding_method", "replication_factor", "write_consistency_factor")
WRITES = {
    ("PUT", ""), ("PUT", "/vectors"), ("POST", "/vectors/delete"), ("POST", "/delete"), ("POST", "/payload"),
    ("PUT", "/payload"), ("POST", "/payload/delete"), ("POST", "/payload/clear"), ("POST", "/batch"),
}  # fmt: skip  # below /collections/{}/points


@dataclass(frozen=True)
class Logged:
    """A write as the log has it."""

    at: float
    method: str
    path: str
    body: Body
    query: Mapping[str, str]


class Routes(rest.Routes):
    """Qdrant's routes onto a store in memory.

    Args:
        names: whether vectors can be added to a collection and dropped from it, as since 1.18.
        flush: seconds between two flushes; a write is safe when a second one has begun.
        second: how long a second of flushes takes.
        version: how the log is replayed. 1.18 declines a write that names a vector that is gone. 1.19 leaves the vector
            out, unless its name was created since the last flush: then it declines the write, too.
        store: what it holds, where several nodes serve the same.

    `url` is where they are served, `failures` how many writes are refused before one is taken, `requests` what came:
    method, path with query, body. `cluster` is what it says otherwise of its shards, `stumbles` how many searches fail,
    `behind` how many looks at a collection still show the metadata `earlier`, as a node does that lags.
    """

    def __init__(
        self,
        *,
        names: bool = True,
        flush: int = 0,
        second: float = 1.0,
        version: str = "1.20.0",
        store: QdrantClient | None = None,
    ) -> None:
        self.store, self.lock = store or QdrantClient(":memory:"), threading.RLock()
        self.failures, self.url, self._held = 0, "", threading.Event()
        self._held.set()
        self._names, self.requests = names, list[tuple[str, str, Body]]()
        self._flush, self._second, self._version = flush, second, version if names else "1.17.1"
        self._log, self._named_at, self._safe = list[Logged](), dict[str, float](), 0.0
        self.cluster: Body = {}
        self.stumbles = self.behind = 0
        self.earlier: Body = {}
        self._made: dict[str, models.CreateCollection] = {}
        self._keys: dict[str, list[models.ShardKeyDescription]] = {}
        further = {
            ("GET", "/"): self._root,
            ("GET", "/collections/{}/cluster"): self._shards,
            ("GET", "/collections/{}"): self._collection,
            ("PUT", "/collections/{}"): self._create,
            ("PUT", "/collections/{}/shards"): self._add_key,
            ("GET", "/collections/{}/shards"): self._shard_keys,
            ("PUT", "/collections/{}/index"): self._index,
            ("POST", "/collections/{}/points/query/batch"): self._query,
        }
        super().__init__(self.store, further)

    def answer(self, method: str, path: str, body: Any, query: Mapping[str, str]) -> Any:
        """The result of a request, which is noted; local mode takes one at a time."""
        self._held.wait(30)
        with self.lock:
            self.requests.append((method, f"{path}?{urlencode(query)}" if query else path, body or {}))
            if self.failures and method == "PUT":
                self.failures -= 1
                raise Overloaded("overloaded")
            if "/vectors/" in path and method != "POST" and not self._names:
                raise NoRoute(path)
            self._require_key(path, body)
            done = super().answer(method, path, body, query)
            self._note(Logged(time.monotonic(), method, path, body or {}, query))
            return done

    def holds(self, until: threading.Event) -> None:
        """Answer nothing until the event is set, as a server that was stopped."""
        self._held = until

    def flush(self) -> None:
        """Make all safe that was written so far."""
        self._safe = time.monotonic()

    def crash(self) -> int:
        """Lose what is not flushed and replay the log; how many writes were declined."""
        with self.lock:
            made = _made_like(self.store)
            routes, flushed = rest.Routes(made), max(self._safe, time.monotonic() - 2 * self._flush * self._second)
            done = [self._replay(routes, made, write, safe=write.at <= flushed, flushed=flushed) for write in self._log]
            self.store = self.client = made
            return done.count(False)

    def _replay(self, routes: rest.Routes, made: QdrantClient, write: Logged, *, safe: bool, flushed: float) -> bool:
        gone = _named(write.body) - existing(made, write.path.split("/")[2])
        if gone and not safe and (self._version < "1.19" or any(self._named_at.get(v, 0) > flushed for v in gone)):
            return False
        try:
            routes.answer(write.method, write.path, _without(write.body, gone), write.query)
        except Exception:  # such as a vector for a point whose own write was declined
            return False
        return True

    def _note(self, write: Logged) -> None:
        place = re.fullmatch(r"/collections/[^/]+/(points|vectors)(/.*)?", write.path)
        if place and place[1] == "points" and (write.method, place[2] or "") in WRITES:
            self._log.append(write)
        if place and place[1] == "vectors" and write.method == "PUT":
            self._named_at[place[2][1:]] = write.at

    def _root(self, request: Request) -> Any:
        return models.VersionInfo(title="qdrant - vector search engine", version=self._version)

    def _shards(self, request: Request) -> Any:
        shard = {"shard_id": 0, "points_count": 0, "state": "Active"}
        found = {"peer_id": 1, "shard_count": 1, "local_shards": [shard], "remote_shards": [], "shard_transfers": []}
        return {**found, **self.cluster}

    def _collection(self, request: Request) -> Any:
        name = request.name
        info = self.store.get_collection(name)
        made = self._made[name].model_dump(include=set(SPREAD), exclude_none=True) if name in self._made else {}
        params = info.config.params.model_copy(update=made)
        optimizers = info.config.optimizer_config.model_copy(update={"flush_interval_sec": self._flush})
        config = info.config.model_copy(update={"params": params, "optimizer_config": optimizers})
        if self.behind:
            self.behind -= 1
            config = config.model_copy(update={"metadata": self.earlier})
        return info.model_copy(update={"config": config})

    def _create(self, request: Request) -> Any:
        given = request.read(models.CreateCollection)
        self._made[request.name] = given
        return self.store.create_collection(request.name, given.vectors, given.sparse_vectors, metadata=given.metadata)

    def _require_key(self, path: str, body: Any) -> None:
        """Refuse a shard key that nobody has made."""
        key, name = (body or {}).get("shard_key") if isinstance(body, dict) else None, (path.split("/") + [""] * 3)[2]
        known = [description.key for description in self._keys.get(name, [])]
        if isinstance(key, str | int) and "/points" in path and key not in known:
            raise ValueError(f"Wrong input: Shard key {key} not found")

    def _add_key(self, request: Request) -> Any:
        key = models.ShardKeyDescription(key=request.body["shard_key"])
        self._keys.setdefault(request.name, []).append(key)
        return True

    def _shard_keys(self, request: Request) -> Any:
        return models.ShardKeysResponse(shard_keys=self._keys.get(request.name))

    def _query(self, request: Request) -> Any:
        """The answers; to MMR with an offset nothing, as servers have it."""
        if self.stumbles:
            self.stumbles -= 1
            raise RuntimeError("a node is gone")
        searches = request.read(models.QueryRequestBatch).searches
        found = self.store.query_batch_points(request.name, searches)
        paged = [bool(asked.offset and getattr(asked.query, "mmr", None)) for asked in searches]
        return [models.QueryResponse(points=[]) if empty else own for empty, own in zip(paged, found, strict=True)]

    def _index(self, request: Request) -> Any:
        return models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)


class Overloaded(StoreUnavailable):
    """The server has too much to do just now."""


@contextmanager
def served(routes: Routes, port: int = 0) -> Iterator[Routes]:
    """The routes, served until the end of the block."""
    listening = socket.create_server(("127.0.0.1", port))
    server = rest.RestServer(listening, lambda: routes)
    routes.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.start()
    try:
        yield routes
    finally:
        server.close()


def _made_like(store: QdrantClient) -> QdrantClient:
    """An empty store whose collections have the vectors and metadata of these."""
    made = QdrantClient(":memory:")
    for known in store.get_collections().collections:
        config = store.get_collection(known.name).config
        params = config.params
        vectors: Any = params.vectors
        made.create_collection(known.name, vectors, params.sparse_vectors, metadata=config.metadata)
    return made


def _named(body: Any) -> set[str]:
    """The vectors that a write names."""
    named = {name for point in _points(body) for name in point.get("vector") or {}}
    return named | (set(body["vector"]) if isinstance(body.get("vector"), list) else set())


def _without(body: Body, gone: Iterable[str]) -> Body:
    """The write, without these vectors."""
    if not gone:
        return body
    kept = [{**p, "vector": {v: own for v, own in (p.get("vector") or {}).items() if v not in gone}}
            for p in _points(body)]  # fmt: skip
    return {**body, "points": kept} if kept else body


def _points(body: Any) -> list[Any]:
    return [point for point in body.get("points") or [] if isinstance(point, dict)]
