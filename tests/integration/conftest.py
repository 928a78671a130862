"""A small server of Qdrant's routes, for what only shows over the wire or between processes.

No Qdrant server is at hand. This one answers the routes that populate, search, copies and swaps use, with local mode
behind it, and takes and gives JSON only.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

import pytest
from pydantic import TypeAdapter
from qdrant_client import QdrantClient, models

Body: TypeAlias = dict[str, Any]
VECTOR_NAME: TypeAdapter[Any] = TypeAdapter(models.VectorNameConfig)


class Routes:
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

    def answer(self, method: str, path: list[str], body: Body) -> Any:
        """The result of a request; NotImplementedError where there is no such route."""
        if path == ["collections"]:
            return self.store.get_collections()
        if path == ["aliases"]:
            return self.store.get_aliases()
        if path == ["collections", "aliases"]:
            changes = models.ChangeAliasesOperation.model_validate(body)
            return self.store.update_collection_aliases(changes.actions)
        if path[2:3] == ["vectors"] and self._names:
            return self._vector_name(method, path[1], path[3], body)
        route = getattr(self, "_".join([method, *path[2:]]).lower(), None)
        if route is None:
            raise NotImplementedError
        return route(path[1], body)

    def get(self, name: str, body: Body) -> Any:
        info = self.store.get_collection(name)
        spread = ("shard_number", "sharding_method", "replication_factor", "write_consistency_factor")
        made = self._made[name].model_dump(include=set(spread), exclude_none=True) if name in self._made else {}
        params = info.config.params.model_copy(update=made)
        return info.model_copy(update={"config": info.config.model_copy(update={"params": params})})

    def get_exists(self, name: str, body: Body) -> Any:
        return models.CollectionExistence(exists=self.store.collection_exists(name))

    def put(self, name: str, body: Body) -> Any:
        given = models.CreateCollection.model_validate(body)
        vectors: Any = given.vectors
        self._made[name] = given
        return self.store.create_collection(name, vectors, given.sparse_vectors, metadata=given.metadata)

    def patch(self, name: str, body: Body) -> Any:
        given = models.UpdateCollection.model_validate(body)
        return self.store.update_collection(name, sparse_vectors_config=given.sparse_vectors, metadata=given.metadata)

    def delete(self, name: str, body: Body) -> Any:
        return self.store.delete_collection(name)

    def put_shards(self, name: str, body: Body) -> Any:
        self._keys.setdefault(name, []).append(models.ShardKeyDescription(key=body["shard_key"]))
        return True

    def get_shards(self, name: str, body: Body) -> Any:
        return models.ShardKeysResponse(shard_keys=self._keys.get(name))

    def post_points_batch(self, name: str, body: Body) -> Any:
        return self.store.batch_update_points(name, models.UpdateOperations.model_validate(body).operations)

    def put_points(self, name: str, body: Body) -> Any:
        return self.store.upsert(name, models.PointsList.model_validate(body).points)

    def post_points(self, name: str, body: Body) -> Any:
        given = models.PointRequest.model_validate(body)
        return self.store.retrieve(name, given.ids, given.with_payload or False, given.with_vector or False)

    def post_points_scroll(self, name: str, body: Body) -> Any:
        given = models.ScrollRequest.model_validate(body)
        points, following = self.store.scroll(
            name,
            scroll_filter=given.filter,
            limit=given.limit or 10,
            offset=given.offset,
            with_payload=given.with_payload or False,
            with_vectors=given.with_vector or False,
        )
        return models.ScrollResult(points=points, next_page_offset=following)

    def post_points_count(self, name: str, body: Body) -> Any:
        return self.store.count(name, models.CountRequest.model_validate(body).filter)

    def post_points_delete(self, name: str, body: Body) -> Any:
        selector = models.PointIdsList if "points" in body else models.FilterSelector
        return self.store.delete(name, selector.model_validate(body))

    def put_points_vectors(self, name: str, body: Body) -> Any:
        return self.store.update_vectors(name, models.UpdateVectors.model_validate(body).points)

    def post_points_vectors_delete(self, name: str, body: Body) -> Any:
        given = models.DeleteVectors.model_validate(body)
        assert given.filter is not None
        return self.store.delete_vectors(name, given.vector, given.filter)

    def post_points_query_batch(self, name: str, body: Body) -> Any:
        return self.store.query_batch_points(name, models.QueryRequestBatch.model_validate(body).searches)

    def put_index(self, name: str, body: Body) -> Any:
        return models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)

    def _vector_name(self, method: str, name: str, vector: str, body: Body) -> Any:
        if method == "PUT":
            return self.store.create_vector_name(name, vector, VECTOR_NAME.validate_python(body))
        return self.store.delete_vector_name(name, vector)


class Handler(BaseHTTPRequestHandler):
    """Answers as Qdrant does: the result in an envelope, 404 without words for a route that is not there."""

    routes: Routes
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for the acknowledgement of its head

    def respond(self) -> None:
        """Any request."""
        path = self.path.partition("?")[0].strip("/").split("/")
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        with self.routes.lock:
            self.routes.requests.append((self.command, self.path, body))
            if self.routes.failures and self.command == "PUT":
                self.routes.failures -= 1
                return self.send(503, {"status": {"error": "overloaded"}})
            try:
                self.send(
                    200, {"status": "ok", "time": 0.0, "result": plain(self.routes.answer(self.command, path, body))}
                )
            except NotImplementedError:
                self.send(404, None)
            except ValueError as error:
                self.send(400, {"status": {"error": str(error)}})

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = respond  # noqa: N815

    def send(self, code: int, content: Any) -> None:
        """One answer."""
        payload = b"" if content is None else json.dumps(content).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *args: Any) -> None:
        """Nothing."""


def plain(found: Any) -> Any:
    if isinstance(found, list):
        return [plain(item) for item in found]
    return found.model_dump(mode="json") if hasattr(found, "model_dump") else found


@contextmanager
def served(routes: Routes) -> Iterator[Routes]:
    handler = type("Own", (Handler,), {"routes": routes})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        listening.daemon_threads = True
        routes.url = f"http://127.0.0.1:{listening.server_port}"
        threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield routes
        listening.shutdown()


@pytest.fixture
def small_server() -> Iterator[Callable[..., Routes]]:
    """`small_server(names=True).url`: a server that is up until the test ends."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(served(Routes(**options)))
