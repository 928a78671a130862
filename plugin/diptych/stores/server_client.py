"""`ServerClient`: qdrant-client's own client, which sends numpy vectors without one Python object for each number."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson
from qdrant_client import QdrantClient, grpc, models
from qdrant_client.client_base import QdrantBase
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from diptych.stores import protobuf_points
from diptych.stores.nodes import SEARCH_TIMEOUT, Nodes, search_deadline

READING = (
    "query_points", "query_points_groups", "query_batch_points", "scroll", "retrieve", "count", "facet",
    "search_matrix_pairs", "search_matrix_offsets", "collection_exists", "get_collection", "get_collections",
    "get_aliases", "get_collection_aliases", "collection_cluster_info", "list_shard_keys", "info",
)  # fmt: skip
_OWN = {"close", "migrate", "recreate_collection", "upload_collection", "upload_points"}  # not one call of a node
_POINTS, _ARRAYS = (models.PointStruct, models.PointVectors, protobuf_points.Point), (np.ndarray, models.SparseVector)


class ServerClient(QdrantClient):
    """A client of a Qdrant server. Its `upsert` and `update_vectors` also take named vectors that are numpy arrays.

    Args:
        grpc: whether to speak gRPC rather than HTTP.
        timeout: seconds to wait for an answer.
        search_timeout: seconds that a search may wait for its answers; `deadline` makes them hold.
        others: where further nodes of the server are, for when one does not answer; as in `options`.
        options: of `QdrantClient`: url, host, port, api_key and so on.
    """

    def __init__(
        self,
        *,
        grpc: bool,
        timeout: int,
        search_timeout: float = SEARCH_TIMEOUT,
        others: Sequence[dict[str, Any]] = (),
        **options: Any,
    ) -> None:
        self._speaks_grpc, self._seconds, self.search_timeout = grpc, timeout, search_timeout
        own = {"prefer_grpc": grpc, "timeout": timeout, **options}
        further = [{key: value for key, value in place.items() if key != "grpc"} for place in others]
        self._nodes = Nodes([own, *({**own, **place} for place in further)])
        super().__init__(**own, check_compatibility=False, verify=False)

    @property
    def _client(self) -> QdrantBase:
        """The client of the current node."""
        return self._nodes.current

    @_client.setter
    def _client(self, made: QdrantBase) -> None:
        made.close()  # qdrant-client's own, which knows one node

    def close(self, grpc_grace: float | None = None, **options: Any) -> None:
        """Close the connections to all nodes."""
        if "_nodes" in self.__dict__:  # else it could not be made
            self._nodes.close(grpc_grace=grpc_grace, **options)

    def upsert(  # type: ignore[override]  # what is not named here goes through as it is
        self,
        collection_name: str,
        points: models.Batch | Sequence[models.PointStruct],
        wait: bool = True,
        ordering: models.WriteOrdering | None = None,
        shard_key_selector: models.ShardKeySelector | None = None,
        **options: Any,
    ) -> models.UpdateResult:
        """Write points, as `QdrantClient.upsert` does."""
        given: Any = points
        if options or not is_columnar(points):
            return super().upsert(collection_name, given, wait, ordering, shard_key_selector, **options)
        if self._speaks_grpc:
            routing = _grpc_routing(ordering, shard_key_selector)
            head = grpc.UpsertPoints(collection_name=collection_name, wait=wait, **routing)
            answer = self._nodes.current.write("Upsert", head, protobuf_points.upserted(given), self._seconds)
            return GrpcToRest.convert_update_result(answer.result)
        api: Any = self.http.points_api  # its annotations lack what its defaults allow
        body = JsonPoints(given, shard_key_selector)
        answer = api.upsert_points(collection_name, wait=wait, ordering=ordering, point_insert_operations=body)
        result: models.UpdateResult = answer.result
        return result

    def update_vectors(  # type: ignore[override]  # as above
        self,
        collection_name: str,
        points: Sequence[models.PointVectors],
        wait: bool = True,
        ordering: models.WriteOrdering | None = None,
        shard_key_selector: models.ShardKeySelector | None = None,
        **options: Any,
    ) -> models.UpdateResult:
        """Replace vectors of points that exist, as `QdrantClient.update_vectors` does."""
        given: Any = points
        if options or not is_columnar(points):
            return super().update_vectors(collection_name, given, wait, ordering, shard_key_selector, **options)
        if self._speaks_grpc:
            routing = _grpc_routing(ordering, shard_key_selector)
            head = grpc.UpdatePointVectors(collection_name=collection_name, wait=wait, **routing)
            answer = self._nodes.current.write("UpdateVectors", head, protobuf_points.updated(given), self._seconds)
            return GrpcToRest.convert_update_result(answer.result)
        api: Any = self.http.points_api
        body = JsonPoints(given, shard_key_selector)
        answer = api.update_vectors(collection_name, wait=wait, ordering=ordering, update_vectors=body)
        result: models.UpdateResult = answer.result
        return result

    def retrieve(
        self,
        collection_name: str,
        ids: Sequence[models.ExtendedPointId],
        with_payload: models.WithPayloadInterface = True,
        with_vectors: models.WithVector = False,
        consistency: models.ReadConsistency | None = None,
        shard_key_selector: models.ShardKeySelector | None = None,
        timeout: int | None = None,
        **options: Any,
    ) -> list[models.Record]:
        """Points by id, as `QdrantClient.retrieve` does. Over gRPC, without vectors, it takes less of the processor."""
        routing = (consistency, shard_key_selector, timeout)
        if not self._is_plain(with_payload, with_vectors, routing, options):
            return super().retrieve(collection_name, ids, with_payload, with_vectors, *routing, **options)
        request = grpc.GetPoints(
            collection_name=collection_name,
            ids=map(protobuf_points.point_id, ids),
            with_payload=RestToGrpc.convert_with_payload_interface(with_payload),
            with_vectors=RestToGrpc.convert_with_vectors(False),
        )
        return protobuf_points.records(self._nodes.current.answer("Get", request).result)

    def scroll(  # type: ignore[override]  # as above
        self,
        collection_name: str,
        scroll_filter: models.Filter | None = None,
        limit: int = 10,
        order_by: models.OrderBy | None = None,
        offset: models.ExtendedPointId | None = None,
        with_payload: models.WithPayloadInterface = True,
        with_vectors: models.WithVector = False,
        consistency: models.ReadConsistency | None = None,
        shard_key_selector: models.ShardKeySelector | None = None,
        timeout: int | None = None,
        **options: Any,
    ) -> tuple[list[models.Record], models.ExtendedPointId | None]:
        """Points page by page, as `QdrantClient.scroll` does; see `retrieve`."""
        routing, known = (consistency, shard_key_selector, timeout), isinstance(scroll_filter, models.Filter | None)
        if order_by is not None or not known or not self._is_plain(with_payload, with_vectors, routing, options):
            own = (scroll_filter, limit, order_by, offset, with_payload, with_vectors)
            return super().scroll(collection_name, *own, *routing, **options)
        request = grpc.ScrollPoints(
            collection_name=collection_name,
            filter=None if scroll_filter is None else RestToGrpc.convert_filter(scroll_filter),
            limit=limit,
            offset=None if offset is None else protobuf_points.point_id(offset),
            with_payload=RestToGrpc.convert_with_payload_interface(with_payload),
            with_vectors=RestToGrpc.convert_with_vectors(False),
        )
        answer = self._nodes.current.answer("Scroll", request)
        following = protobuf_points.id_in(answer.next_page_offset) if answer.HasField("next_page_offset") else None
        return protobuf_points.records(answer.result), following

    def _is_plain(self, payload: object, vectors: object, routing: tuple[Any, ...], options: dict[str, Any]) -> bool:
        """Whether a read goes over gRPC, wants no vectors, and says nothing that only qdrant-client converts."""
        known = isinstance(payload, bool | list | models.PayloadSelectorInclude | models.PayloadSelectorExclude)
        return self._speaks_grpc and known and vectors is False and routing == (None, None, None) and not options

    def metadata_views(self, collection_name: str) -> list[dict[str, Any]]:
        """The collection's metadata as each node shows it; nodes that do not answer are left out."""
        return self._nodes.each(lambda node: node.get_collection(collection_name).config.metadata or {})

    def search_seconds(self, collection_name: str, point: models.ExtendedPointId, using: str, limit: int) -> float:
        """Seconds that a neighbour search takes, by the server's measure. The deadline of searches applies."""
        with search_deadline(self):
            if self._speaks_grpc:
                query = grpc.Query(nearest=grpc.VectorInput(id=RestToGrpc.convert_extended_point_id(point)))
                request = grpc.QueryPoints(collection_name=collection_name, query=query, using=using, limit=limit)
                return float(self._nodes.current.answer("Query", request).time)
            wanted = models.QueryRequest(query=point, using=using, limit=limit)
            api: Any = self.http.search_api
            return float(api.query_points(collection_name, query_request=wanted).time)


def _grpc_routing(ordering: Any, shard_key: Any) -> dict[str, Any]:
    return {
        "ordering": ordering and RestToGrpc.convert_write_ordering(ordering),
        "shard_key_selector": None if shard_key is None else RestToGrpc.convert_shard_key_selector(shard_key),
    }


def _at_a_node(method: str) -> Callable[..., Any]:
    """The client's method, which moves to the next node when one does not answer."""
    plain = getattr(ServerClient, method)

    @functools.wraps(plain)
    def call(self: ServerClient, *args: Any, **options: Any) -> Any:
        run = self._nodes.read if method in READING else self._nodes.write
        return run(lambda: plain(self, *args, **options))

    return call


for _method, _function in inspect.getmembers(QdrantBase, inspect.isfunction):
    if not _method.startswith("_") and _method not in _OWN:
        setattr(ServerClient, _method, _at_a_node(_method))


# Points on their way to a server.


def is_columnar(points: object) -> bool:
    """Whether the points have named vectors as numpy arrays or sparse vectors, as populate makes them."""
    if not isinstance(points, list):
        return False
    for point in points:
        if not isinstance(point, _POINTS) or not isinstance(point.vector, dict):
            return False
        for vector in point.vector.values():
            if not isinstance(vector, _ARRAYS):
                return False
    return True


class JsonPoints:
    """The body of a write over HTTP, with the same interface as qdrant-client's own models."""

    def __init__(
        self, points: Sequence[models.PointStruct | models.PointVectors | protobuf_points.Point], shard_key: Any = None
    ) -> None:
        self._points, self._shard_key = points, shard_key

    def model_dump_json(self, **_: Any) -> bytes:
        """The JSON."""
        points = [_json_point(point) for point in self._points]
        body = {"points": points} if self._shard_key is None else {"points": points, "shard_key": self._shard_key}
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def _json_point(point: models.PointStruct | models.PointVectors | protobuf_points.Point) -> dict[str, Any]:
    vectors: Any = point.vector
    made = {"id": point.id, "vector": {name: _json_vector(vector) for name, vector in vectors.items()}}
    payload = getattr(point, "payload", None)
    return made if payload is None else {**made, "payload": payload}


def _json_vector(vector: Any) -> Any:
    if isinstance(vector, models.SparseVector):
        return {"indices": vector.indices, "values": vector.values}
    return np.ascontiguousarray(vector, np.float32)
