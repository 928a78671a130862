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


def describe(found: EdgeCollection) -> models.CollectionInfo:
    """Config, counts and payload indexes of a collection."""
    info = found.shard.read(lambda opened: opened.info())
    return models.CollectionInfo(
        status=_status(found),
        optimizer_status=models.OptimizersStatusOneOf.OK,
        indexed_vectors_count=info.indexed_vectors_count,
        points_count=info.points_count,
        segments_count=info.segments_count,
        config=_config(found.record.config),
        payload_schema=index_infos(info.payload_schema),
    )


def needs_optimizing(found: EdgeCollection) -> bool:
    """Whether `optimize` would do something.

    It does where vectors are searched one by one, settings have changed, or much of the space is of deleted points.
    """
    state = found.shard.writes, found.record
    if found.needs is None or found.needs[0] != state:
        found.needs = state, found.record.stale or wasteful(found) or _lacks_index(found)
    return found.needs[1]


def wasteful(found: EdgeCollection) -> bool:
    """Whether so many points were deleted, or moved by updates, that `optimize` would free much space.

    Edge does so for a segment of 1,000 points of which a fifth is deleted. What it has left once is not counted again.
    """
    lost = deleted_points(found)
    return lost >= max(DELETED, DELETED_SHARE * (lost + points_of(found)), MORE * found.kept_deleted)


def deleted_points(found: EdgeCollection) -> int:
    """Number of deleted points that still take space, as of the last flush."""
    segments = found.folder / found.record.shard / SEGMENTS
    places = sum(path.stat().st_size // 8 for path in segments.glob("*/*id_tracker.versions"))
    return max(0, places - points_of(found))


def points_of(found: EdgeCollection) -> int:
    """Number of points."""
    return int(found.shard.read(lambda opened: opened.info()).points_count)


def _lacks_index(found: EdgeCollection) -> bool:
    optimizers = found.record.config.optimizers_config
    given = optimizers.indexing_threshold if optimizers else None
    threshold = INDEXING_THRESHOLD if given is None else given
    sizes = {name: params.size * _width(params) for name, params in dense_vectors(found.record.config).items()}
    bytes_waiting = found.shard.read(lambda opened: _waiting(opened, found, sizes))
    return threshold > 0 and bytes_waiting >= threshold * 1024


def _waiting(opened: Any, found: EdgeCollection, sizes: dict[str, int]) -> int:
    """Estimate of the bytes of vectors without an index; Edge reports only a count over all vectors."""
    held = {name: _holding(opened, name) for name in found.space}
    unindexed = max(0, sum(held.values()) - int(opened.info().indexed_vectors_count))
    return max((min(unindexed, held[name]) * size for name, size in sizes.items()), default=0)


def _width(params: models.VectorParams) -> int:
    """Bytes of a number."""
    return {models.Datatype.FLOAT16: 2, models.Datatype.UINT8: 1}.get(params.datatype or models.Datatype.FLOAT32, 4)


def _holding(opened: Any, name: str) -> int:
    has = edge.Filter(must=[edge.HasVectorCondition(name)])
    return int(opened.count(edge.CountRequest(exact=True, filter=has)))


def _status(found: EdgeCollection) -> models.CollectionStatus:
    if found.run is not None:
        return models.CollectionStatus.YELLOW
    return models.CollectionStatus.GREY if needs_optimizing(found) else models.CollectionStatus.GREEN


def _config(config: models.CreateCollection) -> models.CollectionConfig:
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
        optimizer_config=_optimizers(config.optimizers_config),
        quantization_config=config.quantization_config,
        metadata=config.metadata,
    )


def _optimizers(diff: models.OptimizersConfigDiff | None) -> models.OptimizersConfig:
    given = diff.model_dump(exclude_none=True) if diff else {}
    known = {name: value for name, value in given.items() if name != "max_optimization_threads"}
    defaults = {"default_segment_number": 0, "flush_interval_sec": 5, "indexing_threshold": INDEXING_THRESHOLD}
    return models.OptimizersConfig(**{**defaults, **known})
