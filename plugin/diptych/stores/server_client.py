"""`ServerClient`: qdrant-client's own client, which sends numpy vectors without one Python object for each number."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from qdrant_client import QdrantClient, grpc, models
from qdrant_client.client_base import QdrantBase
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from diptych.stores.nodes import SEARCH_TIMEOUT, Nodes, search_deadline

READING = (
    "query_points", "query_points_groups", "query_batch_points", "scroll", "retrieve", "count", "facet",
    "search_matrix_pairs", "search_matrix_offsets", "collection_exists", "get_collection", "get_collections",
    "get_aliases", "get_collection_aliases", "collection_cluster_info", "list_shard_keys", "info",
)  # fmt: skip
_OWN = {"close", "migrate", "recreate_collection", "upload_collection", "upload_points"}  # not one call of a node
_ARRAYS = np.ndarray | models.SparseVector


@dataclass(slots=True)
class Point:
    """A point with named vectors, as `models.PointStruct` and `models.PointVectors`, but cheaper to make."""

    id: int | str
    vector: Mapping[str, Any]
    payload: Mapping[str, Any] | None = None


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
        self._speaks_grpc, self.search_timeout = grpc, search_timeout
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
            messages = [_message(grpc.PointStruct, point) for point in given]
            request = grpc.UpsertPoints(collection_name=collection_name, wait=wait, points=messages, **routing)
            return GrpcToRest.convert_update_result(self._nodes.current.answer("Upsert", request).result)
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
            messages = [_message(grpc.PointVectors, point) for point in given]
            request = grpc.UpdatePointVectors(collection_name=collection_name, wait=wait, points=messages, **routing)
            return GrpcToRest.convert_update_result(self._nodes.current.answer("UpdateVectors", request).result)
        api: Any = self.http.points_api
        body = JsonPoints(given, shard_key_selector)
        answer = api.update_vectors(collection_name, wait=wait, ordering=ordering, update_vectors=body)
        result: models.UpdateResult = answer.result
        return result

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
        if not isinstance(point, models.PointStruct | models.PointVectors | Point):
            return False
        if not isinstance(point.vector, dict) or not all(isinstance(own, _ARRAYS) for own in point.vector.values()):
            return False
    return True


class JsonPoints:
    """The body of a write over HTTP, with the same interface as qdrant-client's own models."""

    def __init__(
        self, points: Sequence[models.PointStruct | models.PointVectors | Point], shard_key: Any = None
    ) -> None:
        self._points, self._shard_key = points, shard_key

    def model_dump_json(self, **_: Any) -> bytes:
        """The JSON."""
        points = [_json_point(point) for point in self._points]
        body = {"points": points} if self._shard_key is None else {"points": points, "shard_key": self._shard_key}
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def _json_point(point: models.PointStruct | models.PointVectors | Point) -> dict[str, Any]:
    given: Any = point.vector
    vectors: dict[str, Any] = {}
    for name, vector in given.items():
        if isinstance(vector, models.SparseVector):
            vectors[name] = {"indices": vector.indices, "values": vector.values}
        else:
            vectors[name] = np.ascontiguousarray(vector, np.float32)
    payload = getattr(point, "payload", None)
    return {"id": point.id, "vector": vectors, **({} if payload is None else {"payload": payload})}


def _message(kind: Any, point: models.PointStruct | models.PointVectors | Point) -> Any:
    """The gRPC message of a point, `PointStruct` or `PointVectors`. Numbers go into it as they lie in memory.

    qdrant-client's own conversion takes lists, and makes a Python object of each number.
    """
    own: Any = point.vector
    payload = getattr(point, "payload", None)
    identifier = RestToGrpc.convert_extended_point_id(point.id)
    made = kind(id=identifier, payload=RestToGrpc.convert_payload(payload)) if payload else kind(id=identifier)
    made.vectors.vectors.SetInParent()  # a point may have no vector
    vectors = made.vectors.vectors.vectors
    for name, vector in own.items():
        if isinstance(vector, models.SparseVector):
            vectors[name].sparse.MergeFrom(grpc.SparseVector(values=vector.values, indices=vector.indices))
        elif vector.ndim == 2:
            vectors[name].multi_dense.vectors.extend(grpc.DenseVector.FromString(_numbers(row)) for row in vector)
        else:
            vectors[name].dense.MergeFromString(_numbers(vector))
    return made


def _numbers(vector: np.ndarray) -> bytes:
    """The bytes of a `DenseVector`."""
    return _before_numbers(len(vector)) + np.ascontiguousarray(vector, "<f4").tobytes()


@functools.cache
def _before_numbers(count: int) -> bytes:
    """What precedes so many numbers in the bytes of a `DenseVector`."""
    whole = grpc.DenseVector(data=np.zeros(count).tolist()).SerializeToString()
    return bytes(whole[: len(whole) - 4 * count])
