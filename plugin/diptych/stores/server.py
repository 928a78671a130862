"""`ServerClient`: qdrant-client's own client, which sends numpy vectors without a Python object a number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qdrant_client import QdrantClient, grpc, models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from diptych.stores.wire import JsonPoints, add_point_vectors, add_points, is_columnar

if TYPE_CHECKING:
    from collections.abc import Sequence


class ServerClient(QdrantClient):
    """A client of a Qdrant server. Its `upsert` and `update_vectors` also take named vectors that are numpy arrays.

    Args:
        grpc: whether to speak gRPC rather than HTTP.
        timeout: seconds to wait for an answer.
        options: of `QdrantClient`: url, host, port, api_key and so on.
    """

    def __init__(self, *, grpc: bool, timeout: int, **options: Any) -> None:
        super().__init__(prefer_grpc=grpc, timeout=timeout, check_compatibility=False, **options)
        self._speaks_grpc, self._seconds = grpc, timeout

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
            request = grpc.UpsertPoints(collection_name=collection_name, wait=wait, **routing)
            add_points(request, given)
            answer = self.grpc_points.Upsert(request, timeout=self._seconds)
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
            request = grpc.UpdatePointVectors(collection_name=collection_name, wait=wait, **routing)
            add_point_vectors(request, given)
            answer = self.grpc_points.UpdateVectors(request, timeout=self._seconds)
            return GrpcToRest.convert_update_result(answer.result)
        api: Any = self.http.points_api
        body = JsonPoints(given, shard_key_selector)
        answer = api.update_vectors(collection_name, wait=wait, ordering=ordering, update_vectors=body)
        result: models.UpdateResult = answer.result
        return result


def _grpc_routing(ordering: Any, shard_key: Any) -> dict[str, Any]:
    return {
        "ordering": ordering and RestToGrpc.convert_write_ordering(ordering),
        "shard_key_selector": None if shard_key is None else RestToGrpc.convert_shard_key_selector(shard_key),
    }
