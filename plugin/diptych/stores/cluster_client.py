"""`ClusterClient`: a server client that adds the config's shards, replicas, keys and consistency to every call.

Populate, swaps and searches say nothing of clusters: what a call leaves open is filled in here.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qdrant_client import QdrantClient, models

from diptych.config.placement import ClusterConfig
from diptych.stores.server_client import ServerClient
from diptych.stores.shard_keys import ByField, Fixed, ShardKeys, make_shard_keys

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

# What each method calls the points that it is about: ids, or a filter.
_SELECTING = {
    "delete": "points_selector",
    "clear_payload": "points_selector",
    "delete_vectors": "points",
    "set_payload": "points",
    "overwrite_payload": "points",
    "delete_payload": "points",
}
_READING = (
    "query_points", "query_points_groups", "scroll", "retrieve", "count", "facet",
    "search_matrix_pairs", "search_matrix_offsets",
)  # fmt: skip


class ClusterClient(ServerClient):
    """A client of a Qdrant cluster.

    Args:
        cluster: what is filled in where a call does not say it itself.
        options: of `ServerClient`.
    """

    def __init__(self, cluster: ClusterConfig, **options: Any) -> None:
        super().__init__(**options)
        self.cluster = cluster
        self._keys: ShardKeys | None = None
        if cluster.shard_by is not None:
            self._keys = ByField(ServerClient, self, cluster.shard_by)
        elif cluster.shard_key is not None:
            self._keys = Fixed(cluster.shard_key)

    def create_collection(self, collection_name: str, *args: Any, **options: Any) -> bool:
        """Create a collection with the configured shards and replicas, and its shard key where all points share one."""
        cluster = self.cluster
        own = {
            "shard_number": cluster.shards,
            "replication_factor": cluster.replicas,
            "write_consistency_factor": cluster.write_consistency,
            "sharding_method": models.ShardingMethod.CUSTOM if self._keys else None,
        }
        made = super().create_collection(collection_name, *args, **(_set(own) | options))
        if isinstance(self._keys, Fixed):
            self.create_shard_key(collection_name, self._keys.key)
        return made

    def upsert(self, collection_name: str, points: Any, **options: Any) -> models.UpdateResult:  # type: ignore[override]
        """Write points, each to the shards of its key."""
        groups = self._keys.placed(collection_name, points) if self._keys else [(None, points)]
        return self._each(super().upsert, collection_name, groups, options)

    def update_vectors(self, collection_name: str, points: Any, **options: Any) -> models.UpdateResult:  # type: ignore[override]
        """Replace vectors of existing points, each under its shard key."""
        groups = self._keys.grouped(collection_name, points) if self._keys else [(None, points)]
        return self._each(super().update_vectors, collection_name, groups, options)

    def batch_update_points(  # type: ignore[override]
        self, collection_name: str, update_operations: Any, **options: Any
    ) -> list[models.UpdateResult]:
        """Apply several updates in order."""
        operations = self._keys.addressed(collection_name, update_operations) if self._keys else update_operations
        return super().batch_update_points(collection_name, operations, **(self._ordering() | options))

    def query_batch_points(  # type: ignore[override]
        self, collection_name: str, requests: Any, **options: Any
    ) -> list[models.QueryResponse]:
        """Answer several queries."""
        if isinstance(self._keys, Fixed):
            requests = [request.model_copy(update={"shard_key": self._keys.key}) for request in requests]
        return super().query_batch_points(collection_name, requests, **(self._consistency() | options))

    def _each(self, call: Callable[..., Any], name: str, groups: Any, options: dict[str, Any]) -> models.UpdateResult:
        found = [call(name, points, **(self._ordering() | _key(key) | options)) for key, points in groups]
        result: models.UpdateResult = found[-1]
        return result

    def _selected(self, method: str, name: str, argument: str, given: dict[str, Any]) -> models.UpdateResult:
        """Call a method for given points, once for each of their shard keys."""
        options = self._ordering() | given
        selected = options.pop(argument)
        groups = self._keys.selected(name, selected) if self._keys else [(None, selected)]
        call = getattr(super(), method)
        found = [call(name, **{argument: part}, **(_key(key) | options)) for key, part in groups]
        return found[-1] if found else models.UpdateResult(status=models.UpdateStatus.COMPLETED)

    def _reads(self, takes: Any) -> dict[str, Any]:
        """The read settings that a method accepts."""
        own = self._consistency() | (_key(self._keys.key) if isinstance(self._keys, Fixed) else {})
        return {name: value for name, value in own.items() if name in takes}

    def _ordering(self) -> dict[str, Any]:
        ordering = self.cluster.ordering
        return {"ordering": models.WriteOrdering(ordering)} if ordering else {}

    def _consistency(self) -> dict[str, Any]:
        asked = self.cluster.read_consistency
        if asked is None:
            return {}
        return {"consistency": models.ReadConsistencyType(asked) if isinstance(asked, str) else asked}


def require_shard_key(client: QdrantBase, name: str) -> None:
    """Create the config's one shard key in a collection that another config has created."""
    if isinstance(client, ClusterClient) and client.cluster.shard_key is not None:
        make_shard_keys(client, name, [client.cluster.shard_key])


def _set(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _key(key: Any) -> dict[str, Any]:
    return {} if key is None else {"shard_key_selector": key}


def _selecting(method: str, argument: str) -> Callable[..., models.UpdateResult]:
    signature = inspect.signature(getattr(QdrantClient, method))

    def call(self: ClusterClient, *args: Any, **options: Any) -> models.UpdateResult:
        given = signature.bind(self, *args, **options).arguments
        name = given.pop("collection_name")
        own = {key: value for key, value in given.items() if key not in ("self", "kwargs")}
        return self._selected(method, name, argument, own)

    return _named(call, method)


def _reading(method: str) -> Callable[..., Any]:
    plain = getattr(ServerClient, method)
    takes = inspect.signature(getattr(QdrantClient, method)).parameters

    def call(self: ClusterClient, *args: Any, **options: Any) -> Any:
        return plain(self, *args, **(self._reads(takes) | options))

    return _named(call, method)


def _named(call: Callable[..., Any], method: str) -> Callable[..., Any]:
    return functools.wraps(getattr(QdrantClient, method))(call)


for _method, _argument in _SELECTING.items():
    setattr(ClusterClient, _method, _selecting(_method, _argument))
for _method in _READING:
    setattr(ClusterClient, _method, _reading(_method))
