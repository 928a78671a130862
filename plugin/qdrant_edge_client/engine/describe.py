"""Describes a collection in qdrant-client's models."""

from __future__ import annotations

from typing import Any

import qdrant_edge as edge
from qdrant_client import models

from qdrant_edge_client.convert.config import dense_vectors, merged_hnsw
from qdrant_edge_client.convert.indexes import index_infos
from qdrant_edge_client.engine.collection import EdgeCollection
from qdrant_edge_client.health.wal import SEGMENTS

DELETED, DELETED_SHARE = 1000, 0.2
MORE = 1.5  # deleted points for each that the last optimisation has left
INDEXING_THRESHOLD = 10_000  # kB of vectors in a segment from which Edge builds HNSW


def describe(collection: EdgeCollection) -> models.CollectionInfo:
    """Config, counts and payload indexes of a collection."""
    info = collection.shard.read(lambda edge_shard: edge_shard.info())
    return models.CollectionInfo(
        status=_status(collection),
        optimizer_status=models.OptimizersStatusOneOf.OK,
        indexed_vectors_count=info.indexed_vectors_count,
        points_count=info.points_count,
        segments_count=info.segments_count,
        config=_config(collection.record.config),
        payload_schema=index_infos(info.payload_schema),
    )


def needs_optimizing(collection: EdgeCollection) -> bool:
    """Whether `optimize` would do something.

    It does where vectors are searched one by one, settings have changed, or much of the space is of deleted points.
    """
    state = collection.shard.writes, collection.record
    if collection.index_check is None or collection.index_check[0] != state:
        collection.index_check = state, collection.record.stale or wasteful(collection) or _lacks_index(collection)
    return collection.index_check[1]


def wasteful(collection: EdgeCollection) -> bool:
    """Whether so many points were deleted, or moved by updates, that `optimize` would free much space.

    Edge does so for a segment of 1,000 points of which a fifth is deleted. What it has left once is not counted again.
    """
    deleted = deleted_points(collection)
    return deleted >= max(DELETED, DELETED_SHARE * (deleted + points_of(collection)), MORE * collection.kept_deleted)


def deleted_points(collection: EdgeCollection) -> int:
    """Number of deleted points that still take space, as of the last flush."""
    segments = collection.folder / collection.record.shard / SEGMENTS
    tracked = sum(path.stat().st_size // 8 for path in segments.glob("*/*id_tracker.versions"))
    return max(0, tracked - points_of(collection))


def points_of(collection: EdgeCollection) -> int:
    """Number of points."""
    return int(collection.shard.read(lambda edge_shard: edge_shard.info()).points_count)


def _lacks_index(collection: EdgeCollection) -> bool:
    optimizers = collection.record.config.optimizers_config
    configured = optimizers.indexing_threshold if optimizers else None
    threshold = INDEXING_THRESHOLD if configured is None else configured
    sizes = {name: params.size * _width(params) for name, params in dense_vectors(collection.record.config).items()}
    unindexed_bytes = collection.shard.read(lambda edge_shard: _unindexed_bytes(edge_shard, collection, sizes))
    return threshold > 0 and unindexed_bytes >= threshold * 1024


def _unindexed_bytes(edge_shard: Any, collection: EdgeCollection, sizes: dict[str, int]) -> int:
    """Estimate of the bytes of vectors without an index; Edge reports only a count over all vectors."""
    counts = {name: _count_with(edge_shard, name) for name in collection.space}
    unindexed = max(0, sum(counts.values()) - int(edge_shard.info().indexed_vectors_count))
    return max((min(unindexed, counts[name]) * size for name, size in sizes.items()), default=0)


def _width(params: models.VectorParams) -> int:
    """Bytes of a number."""
    return {models.Datatype.FLOAT16: 2, models.Datatype.UINT8: 1}.get(params.datatype or models.Datatype.FLOAT32, 4)


def _count_with(edge_shard: Any, name: str) -> int:
    has_vector = edge.Filter(must=[edge.HasVectorCondition(name)])
    return int(edge_shard.count(edge.CountRequest(exact=True, filter=has_vector)))


def _status(collection: EdgeCollection) -> models.CollectionStatus:
    if collection.run is not None:
        return models.CollectionStatus.YELLOW
    return models.CollectionStatus.GREY if needs_optimizing(collection) else models.CollectionStatus.GREEN


def _config(config: models.CreateCollection) -> models.CollectionConfig:
    values = config.optimizers_config.model_dump(exclude_none=True) if config.optimizers_config else {}
    supported = {name: value for name, value in values.items() if name != "max_optimization_threads"}
    defaults = {"default_segment_number": 0, "flush_interval_sec": 5, "indexing_threshold": INDEXING_THRESHOLD}
    return models.CollectionConfig(
        params=models.CollectionParams(
            vectors=config.vectors,
            sparse_vectors=config.sparse_vectors,
            shard_number=1,
            replication_factor=1,
            on_disk_payload=config.on_disk_payload,
            payload=config.payload,
            id_tracker=config.id_tracker,
        ),
        hnsw_config=merged_hnsw(config.hnsw_config),
        wal_config=models.WalConfig(wal_capacity_mb=32, wal_segments_ahead=0),
        optimizer_config=models.OptimizersConfig(**{**defaults, **supported}),
        quantization_config=config.quantization_config,
        metadata=config.metadata,
    )
