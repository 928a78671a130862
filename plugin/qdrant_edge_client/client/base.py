"""The base classes of clients of embedded stores."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qdrant_client import models
from qdrant_client.client_base import QdrantBase
from qdrant_client.migrate.migrate import migrate

from qdrant_edge_client.engine.catalog import Catalog
from qdrant_edge_client.engine.collection import EdgeCollection
from qdrant_edge_client.engine.native_errors import edge_errors


class FolderClient(QdrantBase):
    """A client of the store in a folder, `path`."""

    path: Path

    def migrate(
        self,
        dest_client: QdrantBase,
        collection_names: list[str] | None = None,
        batch_size: int = 100,
        recreate_on_collision: bool = False,
    ) -> None:
        """Copy collections into another store, such as from a folder to a server."""
        migrate(self, dest_client, collection_names, recreate_on_collision, batch_size)

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
