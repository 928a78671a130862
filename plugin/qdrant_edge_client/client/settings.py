"""Changes the settings of a live collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from qdrant_client import models

from qdrant_edge_client.convert.config import dense_vectors, edge_config, has_vectors, vectors_of
from qdrant_edge_client.engine.collection import EdgeCollection
from qdrant_edge_client.engine.sidecar import Record
from qdrant_edge_client.errors import CollectionError

_PARTIAL = (
    models.HnswConfigDiff,
    models.OptimizersConfigDiff,
    models.VectorParamsDiff,
    models.SparseVectorParams,
    models.SparseIndexParams,
)  # what these leave out stays as it was; anything else replaces


def reconfigure(
    collection: EdgeCollection,
    vectors: Mapping[str, models.VectorParamsDiff],
    sparse: Mapping[str, models.SparseVectorParams],
    settings: Mapping[str, Any],
) -> None:
    """Write the changed settings and reload the shard; if Edge refuses them, everything stays as before.

    Raises:
        CollectionError: settings for a vector that the collection has not.
    """
    for name in (*vectors, *sparse):
        if name not in collection.space:
            raise CollectionError(
                f"the collection has no vector {name!r}", expected=", ".join(map(repr, collection.space))
            )
    with collection.maintenance:
        before, changed = collection.record, _changed(collection.record, vectors, sparse, settings)
        config = edge_config(changed.config) if has_vectors(changed.config) else None
        collection.change(lambda record: replace(record, config=changed.config, stale=True))
        try:
            collection.shard.reload(collection.folder / before.shard, config)
        except BaseException:
            collection.change(lambda record: before)
            raise


def _changed(
    record: Record,
    vectors: Mapping[str, models.VectorParamsDiff],
    sparse: Mapping[str, models.SparseVectorParams],
    settings: Mapping[str, Any],
) -> Record:
    dense_params = {name: _merged(params, vectors.get(name)) for name, params in dense_vectors(record.config).items()}
    sparse_params = {
        name: _merged(params, sparse.get(name)) for name, params in (record.config.sparse_vectors or {}).items()
    }
    merged = {name: _merged(getattr(record.config, name), value) for name, value in settings.items()}
    return record.with_config(vectors=vectors_of(dense_params), sparse_vectors=sparse_params or None, **merged)


def _merged(old: Any, diff: Any) -> Any:
    """`old` with the values that `diff` sets."""
    if diff is None:
        return old
    if old is None or not isinstance(diff, _PARTIAL):
        return None if diff == models.Disabled.DISABLED else diff
    values = {name: value for name in diff.model_fields_set if (value := getattr(diff, name)) is not None}
    return old.model_copy(update={name: _merged(getattr(old, name), value) for name, value in values.items()})
