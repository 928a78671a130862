"""Copies through the client of servers: what goes over the wire is what arrives.

No Qdrant server is at hand. A small one answers the routes that a copy and a swap use, with local mode behind it; it
takes and gives JSON only, and knows no route for the names of vectors, as servers before 1.18 do.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from diptych import Collection, Registry
from diptych.config.models import Config
from diptych.copying import copy_collection
from diptych.errors import CollectionError, CopyError
from diptych.swap import ApplyOptions, apply

OpenClient = Callable[..., QdrantBase]
Body = dict[str, Any]


class Routes:
    """Qdrant's routes onto a store in memory."""

    def __init__(self) -> None:
        self.store, self.lock, self.failures = QdrantClient(":memory:"), threading.RLock(), 0

    def answer(self, method: str, path: list[str], body: Body) -> Any:
        """The result of a request; KeyError where there is no such route."""
        if path == ["collections"]:
            return self.store.get_collections()
        if path == ["aliases"]:
            return self.store.get_aliases()
        if path == ["collections", "aliases"]:
            changes = models.ChangeAliasesOperation.model_validate(body)
            return self.store.update_collection_aliases(changes.actions)
        return getattr(self, "_".join([method, *path[2:]]).lower())(path[1], body)

    def get(self, name: str, body: Body) -> Any:
        return self.store.get_collection(name)

    def get_exists(self, name: str, body: Body) -> Any:
        return models.CollectionExistence(exists=self.store.collection_exists(name))

    def put(self, name: str, body: Body) -> Any:
        given = models.CreateCollection.model_validate(body)
        vectors: Any = given.vectors
        return self.store.create_collection(name, vectors, given.sparse_vectors, metadata=given.metadata)

    def patch(self, name: str, body: Body) -> Any:
        given = models.UpdateCollection.model_validate(body)
        return self.store.update_collection(name, sparse_vectors_config=given.sparse_vectors, metadata=given.metadata)

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
            if self.routes.failures and self.command == "PUT":
                self.routes.failures -= 1
                return self.send(503, {"status": {"error": "overloaded"}})
            try:
                self.send(
                    200, {"status": "ok", "time": 0.0, "result": plain(self.routes.answer(self.command, path, body))}
                )
            except AttributeError:
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


@pytest.fixture
def routes() -> Routes:
    return Routes()


@pytest.fixture
def server(routes: Routes) -> Iterator[QdrantBase]:
    """The client of a server."""
    handler = type("Own", (Handler,), {"routes": routes})
    listening = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    listening.daemon_threads = True
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    client = QdrantClient(url=f"http://127.0.0.1:{listening.server_port}", check_compatibility=False)
    yield client
    client.close()
    listening.shutdown()
    listening.server_close()


def test_a_folder_is_copied_to_a_server_and_back(
    open_client: OpenClient, server: QdrantBase, fill: Any, assert_same: Any, registry: Registry
) -> None:
    source, back = open_client("edge", "one"), open_client("edge", "two")
    fill(source)
    source.set_payload("c", {"odd": [None, {"a": 1.5}, True, "ünï"]}, [first_id(source)])
    report = copy_collection(source, "c", server, batch=17)
    assert (report.copied, report.passes, report.verified) == (100, 1, True)
    assert report.target.startswith("127.0.0.1:")
    assert copy_collection(source, "c", server).written == 0
    assert_same(source, "c", server, "c")
    assert [hit.id for hit in Collection.open(server, "c", registry=registry).search("word1 number35", limit=1)] == [
        "35"
    ]
    assert copy_collection(server, "c", back).verified
    assert_same(source, "c", back, "c")


def test_a_server_that_falters_is_asked_again(
    open_client: OpenClient, server: QdrantBase, routes: Routes, fill: Any, assert_same: Any
) -> None:
    source = open_client("edge")
    fill(source)
    routes.failures = 2
    with pytest.raises(CopyError, match=r"(?s)cannot create a collection in the store.*503"):
        copy_collection(source, "c", server, retries=1)
    routes.failures = 1
    assert copy_collection(source, "c", server, retries=1).verified
    assert_same(source, "c", server, "c")


def first_id(client: QdrantBase) -> Any:
    return client.scroll("c", limit=1)[0][0].id


def test_what_changed_is_brought_over_to_a_server(
    open_client: OpenClient, server: QdrantBase, fill: Any, assert_same: Any, registry: Registry
) -> None:
    source = open_client("edge")
    fill(source)
    copy_collection(source, "c", server)
    source.delete("c", [first_id(source)])
    source.set_payload("c", {"more": 1}, [first_id(source)])
    report = copy_collection(source, "c", server)
    assert (report.changed, report.deleted) == (1, 1)
    assert_same(source, "c", server, "c")
    server.update_collection("c", metadata={"diptych": None, "diptych_copy": {"stage": "points", "copied": 3}})
    with pytest.raises(CollectionError, match="is an unfinished copy"):
        Collection.open(server, "c", registry=registry)


def test_a_swap_moves_the_alias_on_a_server_that_cannot_add_vectors(
    server: QdrantBase, fill: Any, registry: Registry, config: Config
) -> None:
    fill(server, name="c.1")
    made = models.CreateAlias(collection_name="c.1", alias_name="c")
    server.update_collection_aliases([models.CreateAliasOperation(create_alias=made)])
    wanted = config.model_dump(mode="json", exclude_unset=True)
    wanted["slots"]["dense"]["options"]["dimension"] = 32
    with Collection.open(server, "c", registry=registry) as opened:
        report = apply(opened.handle, Config.model_validate(wanted), ApplyOptions(gate=False))
        assert (report.outcome, report.encoded, report.missing) == ("cut over", {"dense.2": 100}, 0)
        assert [hit.id for hit in opened.search("word1 number35", limit=1)] == ["35"]
    assert server.get_aliases().aliases[0].collection_name == "c.2"
