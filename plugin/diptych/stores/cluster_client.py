"""`ClusterClient`: a server client that adds the config's shards, replicas, keys and consistency to every call.

Populate, swaps and searches say nothing of clusters: what a call leaves open is filled in here.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from qdrant_client import QdrantClient, models

from diptych.config.storage import ClusterConfig
from diptych.errors import CollectionError, DocumentError
from diptych.stores.scroll import plain_id
from diptych.stores.server_client import ServerClient

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

Key: TypeAlias = str | int
Groups: TypeAlias = list[tuple[Any, Any]]  # a key, or several, and what is meant under it

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
        self._keys: Fixed | ByField | None = None
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
        own = {name: value for name, value in own.items() if value is not None}
        made = super().create_collection(collection_name, *args, **(own | options))
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


def _key(key: Any) -> dict[str, Any]:
    return {} if key is None else {"shard_key_selector": key}


def _selecting(method: str, argument: str) -> Callable[..., models.UpdateResult]:
    """A method for given points, called once for each of their shard keys."""
    plain, signature = getattr(ServerClient, method), inspect.signature(getattr(QdrantClient, method))

    @functools.wraps(getattr(QdrantClient, method))
    def call(self: ClusterClient, *args: Any, **options: Any) -> models.UpdateResult:
        given = signature.bind(self, *args, **options).arguments
        name = given.pop("collection_name")
        own = {key: value for key, value in given.items() if key not in ("self", "kwargs")}
        own = self._ordering() | own
        selected = own.pop(argument)
        groups = self._keys.selected(name, selected) if self._keys else [(None, selected)]
        found = [plain(self, name, **{argument: part}, **(_key(key) | own)) for key, part in groups]
        return found[-1] if found else models.UpdateResult(status=models.UpdateStatus.COMPLETED)

    return call


def _reading(method: str) -> Callable[..., Any]:
    plain = getattr(ServerClient, method)
    takes = inspect.signature(getattr(QdrantClient, method)).parameters

    @functools.wraps(getattr(QdrantClient, method))
    def call(self: ClusterClient, *args: Any, **options: Any) -> Any:
        own = self._consistency() | (_key(self._keys.key) if isinstance(self._keys, Fixed) else {})
        return plain(self, *args, **({name: value for name, value in own.items() if name in takes} | options))

    return call


for _method, _argument in _SELECTING.items():
    setattr(ClusterClient, _method, _selecting(_method, _argument))
for _method in _READING:
    setattr(ClusterClient, _method, _reading(_method))


class Fixed:
    """One key for all points. Its methods, as those of `ByField`, return the parts of a call with their keys."""

    def __init__(self, key: Key) -> None:
        self.key = key

    def placed(self, collection: str, points: Any) -> Groups:
        """All of them."""
        return [(self.key, points)]

    grouped = selected = placed

    def addressed(self, collection: str, operations: Any) -> Any:
        """Each with the one key."""
        return [_with_key(operation, self.key) for operation in operations]


class ByField:
    """The key of a point is the value of a field of its payload.

    Qdrant treats points with the same id under several keys as several points. So a point whose field has changed is
    deleted under the old key before it is written under the new one.

    Args:
        plain: the class whose calls have no shard keys of their own yet.
        client: the client.
        field: the field.
    """

    def __init__(self, plain: Any, client: Any, field: str) -> None:
        self._plain, self._client, self._field = plain, client, field
        self._made: dict[str, set[Key]] = {}

    def placed(self, collection: str, points: Any) -> Groups:
        """Points by the key that their payload names. Creates missing keys and deletes points under old keys.

        Raises:
            DocumentError: a point without the field, or with a value that is no shard key.
        """
        wanted = {plain_id(point.id): self._key(point) for point in points}
        made = self._made.setdefault(collection, set())
        if missing := set(wanted.values()) - made:
            make_shard_keys(self._client, collection, missing)
            made.update(missing)
        held = self._held(collection, wanted)
        moved = [point for point, key in held.items() if wanted.get(point, key) != key]
        for key, ids in _by_key(moved, held).items():
            self._plain.delete(self._client, collection, ids, shard_key_selector=key)
        return [
            (key, [point for point in points if wanted[plain_id(point.id)] == key])
            for key in dict.fromkeys(wanted.values())
        ]

    def grouped(self, collection: str, points: Any) -> Groups:
        """Points by the key they are stored under; missing points go with the first, so that the server says so."""
        held = self._held(collection, [point.id for point in points])
        known = self._known(collection)
        found: dict[Any, list[Any]] = {}
        for point in points:
            found.setdefault(held.get(plain_id(point.id), known[0] if known else None), []).append(point)
        return list(found.items())

    def selected(self, collection: str, selector: Any) -> Groups:
        """Ids by the key they are stored under; a filter goes to all keys."""
        ids = selector.points if isinstance(selector, models.PointIdsList) else selector
        if not isinstance(ids, list | tuple):
            return [(self._known(collection) or None, selector)]
        held = self._held(collection, ids)
        return list(_by_key(held, held).items())

    def addressed(self, collection: str, operations: Any) -> Any:
        """Each operation with the key its points are stored under.

        Raises:
            CollectionError: the points of one operation lie under several.
        """
        bodies = [_body(operation) for operation in operations]
        held = self._held(collection, [point for body in bodies for point in _ids(body)])
        made = []
        for operation, body in zip(operations, bodies, strict=True):
            keys = list(dict.fromkeys(held[i] for i in map(plain_id, _ids(body)) if i in held))
            if len(keys) > 1:
                raise CollectionError("an operation covers points of several shard keys", do="give each its own")
            made.append(_with_key(operation, keys[0] if keys else self._known(collection)))
        return made

    def _key(self, point: Any) -> Key:
        found = (point.payload or {}).get(self._field)
        if isinstance(found, str) or (isinstance(found, int) and not isinstance(found, bool) and found >= 0):
            return found
        raise DocumentError(
            "a document has no shard key",
            where=f"point {point.id}, cluster.shard_by {self._field!r}",
            got=repr(found)[:80],
            expected="text, or an integer from 0, in its metadata",
        )

    def _known(self, collection: str) -> list[Key]:
        return shard_keys_of(self._client, collection)

    def _held(self, collection: str, ids: Iterable[Any]) -> dict[Any, Key]:
        """The key under which each existing point is stored."""
        wanted: Sequence[Any] = list(ids)
        if not wanted:
            return {}
        found = self._plain.retrieve(self._client, collection, wanted, with_payload=[self._field])
        keys: dict[Any, Key] = {}
        for record in found:
            stored: Any = record.shard_key
            keys[plain_id(record.id)] = self._key(record) if stored is None else stored
        return keys


def shard_keys_of(client: QdrantClient, collection: str) -> list[Key]:
    """The keys that the collection has."""
    return [found.key for found in client.list_shard_keys(collection).shard_keys or []]


def make_shard_keys(client: QdrantClient, collection: str, keys: Iterable[Key]) -> None:
    """Create the missing keys; several processes may do so at once."""
    for key in sorted(set(keys) - set(shard_keys_of(client, collection)), key=str):
        try:
            client.create_shard_key(collection, key)
        except Exception:
            if key not in shard_keys_of(client, collection):
                raise


def _by_key(ids: Iterable[Any], held: dict[Any, Key]) -> dict[Key, list[Any]]:
    found: dict[Key, list[Any]] = {}
    for point in ids:
        found.setdefault(held[point], []).append(point)
    return found


def _body(operation: Any) -> Any:
    """What an update operation holds: its only field."""
    return getattr(operation, next(iter(type(operation).model_fields)))


def _ids(body: Any) -> list[Any]:
    return [getattr(point, "id", point) for point in getattr(body, "points", None) or []]


def _with_key(operation: Any, key: Any) -> Any:
    name = next(iter(type(operation).model_fields))
    return operation.model_copy(update={name: _body(operation).model_copy(update={"shard_key": key})})
