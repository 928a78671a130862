"""Chooses the shard key of a point: one for all, or the value of a payload field.

Qdrant treats points with the same id under several keys as several points. So a point whose field has changed is
deleted under the old key before it is written under the new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeAlias

from qdrant_client import QdrantClient, models

from diptych.errors import CollectionError, DocumentError
from diptych.stores.scroll import plain_id

Key: TypeAlias = str | int
Groups: TypeAlias = list[tuple[Any, Any]]  # a key, or several, and what is meant under it


class ShardKeys(Protocol):
    """Splits calls by shard key; each method returns the parts of a call with their keys."""

    def placed(self, collection: str, points: Any) -> Groups:
        """The parts of points that are about to be written."""
        ...

    def grouped(self, collection: str, points: Any) -> Groups:
        """The parts of existing points."""
        ...

    def selected(self, collection: str, selector: Any) -> Groups:
        """The parts of ids or a filter."""
        ...

    def addressed(self, collection: str, operations: Any) -> Any:
        """The operations, each with the key of its points."""
        ...


class Fixed:
    """One key for all points."""

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
        self._require(collection, set(wanted.values()))
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
                raise CollectionError("an operation is about points of several shard keys", do="give each its own")
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

    def _require(self, collection: str, keys: set[Key]) -> None:
        """Create the keys that the collection does not have yet."""
        known = self._made.setdefault(collection, set())
        if keys - known:
            make_shard_keys(self._client, collection, keys - known)
            known.update(keys)

    def _known(self, collection: str) -> list[Key]:
        return shard_keys_of(self._client, collection)

    def _held(self, collection: str, ids: Iterable[Any]) -> dict[Any, Key]:
        """The key under which each existing point is stored."""
        wanted: Sequence[Any] = list(ids)
        if not wanted:
            return {}
        found = self._plain.retrieve(self._client, collection, wanted, with_payload=[self._field])
        return {plain_id(record.id): self._key_of(record) for record in found}

    def _key_of(self, record: models.Record) -> Key:
        key: Any = record.shard_key
        return key if key is not None else self._key(record)


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
