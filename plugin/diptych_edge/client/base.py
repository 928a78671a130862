"""The base classes of clients of embedded stores, and what they refuse since only a server can do it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count, islice, product, repeat
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self
from uuid import uuid4

import numpy as np
from qdrant_client import models
from qdrant_client.client_base import QdrantBase
from qdrant_client.migrate.migrate import migrate

from diptych.errors import CollectionError, StoreError, StoreUnsupported
from diptych_edge.engine.catalog import Catalog
from diptych_edge.engine.collection import EdgeCollection
from diptych_edge.engine.folders import COLLECTIONS, folder_name
from diptych_edge.engine.native_errors import edge_errors
from diptych_edge.health.space import TO_WRITE, require_space
from diptych_edge.health.wal import allocated

SERVER_METHODS = (
    "list_snapshots", "create_snapshot", "delete_snapshot", "recover_snapshot",
    "list_full_snapshots", "create_full_snapshot", "delete_full_snapshot",
    "list_shard_snapshots", "create_shard_snapshot", "delete_shard_snapshot", "recover_shard_snapshot",
    "create_shard_key", "delete_shard_key", "list_shard_keys",
    "cluster_collection_update", "collection_cluster_info", "cluster_status", "cluster_telemetry",
    "recover_current_peer", "remove_peer",
)  # fmt: skip
HARMLESS = frozenset(
    {"wait", "ordering", "timeout", "consistency", "batch_size", "parallel", "method", "max_retries", "wal_config"}
)
SERVER_ONLY = frozenset(
    {
        "shard_key_selector", "shard_key", "shard_number", "sharding_method", "replication_factor",
        "write_consistency_factor", "strict_mode_config", "init_from",
    }
)  # fmt: skip
_PARTS = ("vector_storage-", "vector_index-")  # folders of a vector within a segment
PIECE = 1000  # points an operation: large enough for Edge's speed, small enough for its log
_NEUTRAL = (None, 1)  # one shard, one replica: what Edge has


def check_arguments(method: str, arguments: Mapping[str, Any]) -> None:
    """Ignore harmless arguments, refuse others.

    Raises:
        StoreUnsupported: an argument that only a server can honour.
        StoreError: an argument that the method does not have.
    """
    for name, value in arguments.items():
        if name in HARMLESS or (name in SERVER_ONLY and value in _NEUTRAL):
            continue
        if name in SERVER_ONLY:
            raise unsupported(f"{method}(..., {name}=...)", got=repr(value))
        raise StoreError(f"{method}() has no argument {name!r}", where="EdgeClient", do="leave it out")


class FolderClient(QdrantBase):
    """A client of the store in a folder, `path`."""

    path: Path

    def require_room(self, needed: int, purpose: str, *, moving: str = "") -> None:
        """Raise StoreFull unless the disk has room for `needed` bytes more, and for a collection that is rewritten."""
        held = allocated(self.path / COLLECTIONS / folder_name(moving)) if moving else 0
        do = "free some space on that disk, or use another one, and run again"
        require_space(self.path, TO_WRITE + needed + held, purpose, do=do)

    def disk_use(self, collection_name: str) -> tuple[int, dict[str, int]]:
        """Bytes of a collection on the disk: in all, and by named vector with its graph and quantized copies."""
        folder, vectors = self.path / COLLECTIONS / folder_name(collection_name), dict[str, int]()
        for above, folders, _ in os.walk(folder):
            for prefix, name in product(_PARTS, folders):
                if name.startswith(prefix):
                    vector = name.removeprefix(prefix)
                    vectors[vector] = vectors.get(vector, 0) + allocated(Path(above, name))
        return allocated(folder), vectors

    def migrate(
        self,
        dest_client: QdrantBase,
        collection_names: list[str] | None = None,
        batch_size: int = 100,
        recreate_on_collision: bool = False,
    ) -> None:
        """Copy collections into another store, such as from a folder to a server."""
        migrate(self, dest_client, collection_names, recreate_on_collision, batch_size)

    def upload_points(self, collection_name: str, points: Iterable[models.PointStruct], **kwargs: Any) -> None:
        """Upsert any number of points; memory holds one piece of them."""
        stream = iter(points)
        while piece := list(islice(stream, PIECE)):
            self.upsert(collection_name, piece, **kwargs)

    def upload_collection(
        self,
        collection_name: str,
        vectors: Any,
        payload: Iterable[dict[Any, Any]] | None = None,
        ids: Iterable[models.ExtendedPointId] | None = None,
        **kwargs: Any,
    ) -> None:
        """Upsert vectors: an array `[n, dim]`, an array for each name, or an iterable; ids are UUIDs unless given."""
        self.upload_points(collection_name, _points_of(vectors, payload, ids), **kwargs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"


class EdgeBase(FolderClient):
    """Holds the catalog; each part of the interface derives from it."""

    _catalog: Catalog
    _operations = count()

    def _find(self, collection_name: str) -> EdgeCollection:
        return self._catalog.find(collection_name)

    def _write(self, collection: EdgeCollection, build: Callable[[], Any], *, size: int = 0) -> models.UpdateResult:
        """Apply the operation that `build` makes, of about `size` bytes; Edge's errors become ours.

        Raises:
            StoreFull: the disk has too little space.
        """
        with edge_errors(collection.record.name, reading=False):
            operation = build()
        if collection.shard.write(operation, size=size):
            self._maintain(collection)
        return self._done()

    def _maintain(self, collection: EdgeCollection) -> None:
        """Do occasional maintenance in a collection that is written to."""

    def _done(self) -> models.UpdateResult:
        return models.UpdateResult(operation_id=next(self._operations), status=models.UpdateStatus.COMPLETED)


def refuse_server_methods(client: type[Any]) -> None:
    """Give `client` each of `SERVER_METHODS` as a method that raises StoreUnsupported."""
    refuse(
        client,
        SERVER_METHODS,
        lambda _, name: unsupported(f"{name}()"),
        "Take a server; this store raises StoreUnsupported.",
    )


def refuse(client: type[Any], names: Iterable[str], error: Callable[[Any, str], StoreError], doc: str) -> None:
    """Give `client` methods of these names that raise the error that `error` makes of the client and the name."""
    for name in names:

        def method(self: Any, *args: Any, _name: str = name, **kwargs: Any) -> NoReturn:
            raise error(self, _name)

        method.__name__ = method.__qualname__ = name
        method.__doc__ = doc
        setattr(client, name, method)


def unsupported(what: str, *, got: str = "") -> StoreUnsupported:
    """The error for everything that only a server can do."""
    return StoreUnsupported(
        f"the embedded store has no {what}",
        where="EdgeClient",
        got=got,
        do="use a store that has it, a Qdrant server: store: http(s)://...",
    )


def _points_of(
    vectors: Any, payload: Iterable[dict[Any, Any]] | None, ids: Iterable[models.ExtendedPointId] | None
) -> Iterator[models.PointStruct]:
    """The points of a column batch; ids are UUIDs unless given."""
    names = iter(lambda: str(uuid4()), "")
    columns = (names if ids is None else ids, _rows(vectors), repeat(None) if payload is None else payload)
    for identifier, vector, content in zip(*columns, strict=False):
        yield models.PointStruct.model_construct(id=identifier, vector=vector, payload=content)


def _rows(vectors: Any) -> Iterable[Any]:
    """Vectors point by point."""
    if not isinstance(vectors, Mapping):
        return vectors if isinstance(vectors, np.ndarray) else ({} if v is None else v for v in vectors)
    lengths = {name: len(column) for name, column in vectors.items()}
    if len(set(lengths.values())) > 1:
        raise CollectionError("the named vectors differ in number", got=lengths, expected="one of each for each point")
    return (dict(zip(vectors, row, strict=True)) for row in zip(*vectors.values(), strict=True))
