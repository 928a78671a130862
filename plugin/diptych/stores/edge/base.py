"""What the parts of EdgeClient share."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych.stores.edge.catalog import Catalog
from diptych.stores.edge.collection import EdgeCollection
from diptych.stores.edge.faults import told


class EdgeBase(QdrantBase):
    """Holds the catalog; the parts of the interface derive from it."""

    _catalog: Catalog
    _operations = count()

    def _find(self, collection_name: str) -> EdgeCollection:
        return self._catalog.find(collection_name)

    def _write(self, collection: EdgeCollection, build: Callable[[], Any]) -> models.UpdateResult:
        """Apply the operation that `build` makes; what Edge finds wrong with either is told as ours."""
        with told(collection.record.name, reading=False):
            operation = build()
        collection.shard.write(operation)
        return self._done()

    def _done(self) -> models.UpdateResult:
        return models.UpdateResult(operation_id=next(self._operations), status=models.UpdateStatus.COMPLETED)
