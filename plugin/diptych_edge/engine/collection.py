"""One collection: its folder, its record and its shard."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Any, Protocol
from uuid import uuid4

import qdrant_edge as edge
from qdrant_client import models

from diptych.errors import CollectionError, StoreError
from diptych_edge.convert.config import (
    PLACEHOLDER,
    dense_vectors,
    edge_config,
    has_vectors,
    index_infos,
    member,
    merged_hnsw,
    modifier,
    multivector,
    vectors_of,
)
from diptych_edge.convert.points import Space, VectorKind
from diptych_edge.engine import shard as shards
from diptych_edge.engine.folders import RECORD, SHARD, UNFINISHED, Record, remove, replace_file, sync_folder
from diptych_edge.engine.shard import Shard
from diptych_edge.health.inspection import begin, inspect
from diptych_edge.health.seal import Ledger, break_seal
from diptych_edge.health.wal import SEGMENTS, log_end

_SEGMENT, _CONFIG = "segment.json", "edge_config.json"

DELETED, DELETED_SHARE = 1000, 0.2
MORE = 1.5  # deleted points for each that the last optimisation has left
INDEXING_THRESHOLD = 10_000  # kB of vectors in a segment from which Edge builds HNSW


class RunningOptimization(Protocol):
    """A running optimisation."""

    stage: str

    def cancel(self) -> None:
        """Cancel it; the collection stays as it was."""
        ...


class EdgeCollection:
    """An open collection: `record` describes it, `shard` holds the points, `space` its vectors' kinds."""

    def __init__(self, folder: Path, record: Record, shard: Shard) -> None:
        self.folder, self.record, self.shard = folder, record, shard
        self.space = _space(record.config)
        self._records, self.maintenance = RLock(), RLock()
        self.run: RunningOptimization | None = None
        self.closing = False
        self.kept_deleted = 0  # deleted points that the last optimisation has left
        # Whether an index is needed, as of a number of writes and a record.
        self.index_check: tuple[tuple[int, Record], bool] | None = None

    @classmethod
    def create(cls, folder: Path, name: str, config: models.CreateCollection) -> EdgeCollection:
        """Create a collection. Its record is `unfinished.json` until it is complete, so a kill leaves known rubbish."""
        record = Record(name, new_shard_name(), config)
        record.write(folder, UNFINISHED)
        shard_folder = folder / record.shard
        edge_shard = shards.create(shard_folder, edge_config(config))
        if not has_vectors(config):
            edge_shard.update(edge.UpdateOperation.delete_vector_name(PLACEHOLDER))
        edge_shard.flush()
        shard = Shard(edge_shard, name, Ledger(shard_folder, log_end(shard_folder) - 1, edge_shard))
        (folder / UNFINISHED).replace(folder / RECORD)
        sync_folder(folder)
        return cls(folder, record, shard)

    @classmethod
    def load(cls, folder: Path) -> EdgeCollection:
        """Open the collection in `folder`; whatever a crash left unfinished there is finished or removed.

        Raises:
            StoreDamaged, StoreFull: its files are damaged, or the disk is full.
        """
        record = Record.read(folder)
        shard_folder = folder / record.shard
        findings = inspect(shard_folder, changing=record.pending is not None)
        break_seal(shard_folder, findings.seal)
        pending = record.pending
        edge_shard = (
            load_mended(shard_folder, pending.get("drop") or pending["add"]) if pending else shards.load(shard_folder)
        )
        try:
            collection = cls(folder, record, Shard(edge_shard, record.name, begin(shard_folder, edge_shard, findings)))
        except BaseException:
            edge_shard.close()
            raise
        for leftover in folder.glob(f"{SHARD}*"):  # only now: were the record wrong, it might be the data
            if leftover.name != record.shard:
                remove(leftover)
        if pending:
            collection._finish(pending)
        return collection

    def change(self, edit: Callable[[Record], Record]) -> None:
        """Replace the record by `edit(record)`, on disk first."""
        with self._records:
            changed = edit(self.record)
            changed.write(self.folder)
            self.record, self.space = changed, _space(changed.config)

    def add_vector(self, name: str, config: models.VectorNameConfig) -> None:
        """Add a named vector; after a crash half-way, the next opening completes it."""
        with self._records:
            pending = {"add": name, "config": config.model_dump(mode="json", exclude_none=True)}
            self.change(lambda record: replace(record, pending=pending))
            self._finish(pending)

    def drop_vector(self, name: str) -> None:
        """Remove a named vector from all points; after a crash half-way, the next opening completes it."""
        with self._records:
            pending = {"drop": name}
            self.change(lambda record: replace(record, pending=pending))
            self._finish(pending)

    def require_vector(self, name: str) -> None:
        """Raise CollectionError unless the collection has this vector."""
        if name not in self.space:
            raise CollectionError(
                f"the collection has no vector {name!r}",
                where=f"collection {self.record.name!r}",
                expected=", ".join(map(repr, self.space)),
            )

    def exchange(self, prepare: Callable[[], Any]) -> None:
        """Replace the EdgeShard by the one that `prepare()` returns."""
        with self._records:  # taken first here as in add_vector, so that the two cannot wait for each other
            self.shard.exchange(self.folder / self.record.shard, prepare)

    def close(self) -> None:
        """End a running optimisation, flush and close."""
        self.closing = True
        if self.run is not None:
            self.run.cancel()
        with self.maintenance:
            self.shard.close()

    def _finish(self, pending: dict[str, Any]) -> None:
        try:
            self.shard.flush()  # all before it is in the segments, so that a lost log can be begun anew after it
            self.shard.write(_operation(pending))
            self.shard.rebase()  # unflushed, opening would do it over from the log; a kill just then would not be known
            self.change(lambda record: _changed(record, pending))
        finally:
            if self.record.pending:
                self.change(lambda record: replace(record, pending=None))


def new_shard_name() -> str:
    """A name for a data folder that no other has or had."""
    return f"{SHARD}{uuid4().hex[:12]}"


def _space(config: models.CreateCollection) -> Space:
    space: dict[str, tuple[VectorKind, int]] = {}
    for name, params in dense_vectors(config).items():
        space[name] = ("multivector" if params.multivector_config else "dense", params.size)
    return {**space, **dict.fromkeys(config.sparse_vectors or {}, ("sparse", 0))}


def _operation(pending: dict[str, Any]) -> Any:
    """Edge's operation for a change of named vectors."""
    if "drop" in pending:
        return edge.UpdateOperation.delete_vector_name(pending["drop"])
    name, params = pending["add"], _added(pending["config"])
    if isinstance(params, models.SparseVectorParams):
        datatype = params.index.datatype if params.index else None
        kind = member(edge.VectorStorageDatatype, datatype)
        return edge.UpdateOperation.create_sparse_vector(name, modifier(params.modifier), kind)
    return edge.UpdateOperation.create_dense_vector(
        name,
        params.size,
        member(edge.Distance, params.distance),
        multivector(params.multivector_config),
        member(edge.VectorStorageDatatype, params.datatype),
    )


def _added(config: dict[str, Any]) -> models.VectorParams | models.SparseVectorParams:
    """The settings of a vector that is added by name; those of a server's call have the same names."""
    if "dense" in config:
        return models.VectorParams(**config["dense"])
    raw = config["sparse"]
    index = models.SparseIndexParams(datatype=raw["datatype"]) if raw.get("datatype") else None
    return models.SparseVectorParams(modifier=raw.get("modifier"), index=index)


def _changed(record: Record, pending: dict[str, Any]) -> Record:
    """The record after the change."""
    dense, sparse = dict(dense_vectors(record.config)), dict(record.config.sparse_vectors or {})
    if "drop" in pending:
        for vectors in (dense, sparse):
            vectors.pop(pending["drop"], None)
    elif isinstance(params := _added(pending["config"]), models.VectorParams):
        dense[pending["add"]] = params
    else:
        sparse[pending["add"]] = params
    return replace(record.with_config(vectors=vectors_of(dense), sparse_vectors=sparse or None), pending=None)


def describe(collection: EdgeCollection) -> models.CollectionInfo:
    """Config, counts and payload indexes of a collection."""
    status = models.CollectionStatus
    info = collection.shard.read(lambda edge_shard: edge_shard.info())
    return models.CollectionInfo(
        status=status.YELLOW if collection.run else status.GREY if needs_optimizing(collection) else status.GREEN,
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
    widths = {models.Datatype.FLOAT16: 2, models.Datatype.UINT8: 1}  # bytes of a number, else 4
    dense = dense_vectors(collection.record.config).items()
    sizes = {name: params.size * (widths.get(params.datatype, 4) if params.datatype else 4) for name, params in dense}

    def unindexed_bytes(edge_shard: Any) -> int:
        """Estimate of the bytes of vectors without an index; Edge reports only a count over all vectors."""
        filters = {name: edge.Filter(must=[edge.HasVectorCondition(name)]) for name in collection.space}
        counts = {name: int(edge_shard.count(edge.CountRequest(True, own))) for name, own in filters.items()}
        unindexed = max(0, sum(counts.values()) - int(edge_shard.info().indexed_vectors_count))
        return max((min(unindexed, counts[name]) * size for name, size in sizes.items()), default=0)

    return threshold > 0 and collection.shard.read(unindexed_bytes) >= threshold * 1024


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


def load_mended(folder: Path, vector: str) -> Any:
    """Open the EdgeShard in `folder`, in which adding or dropping `vector` may be unfinished.

    Edge changes its segments one after another and its own config last, and does not open a collection whose segments
    and config name different vectors. The vector in question holds nothing yet, or nothing that is wanted any more, so
    it is taken out of all of them; then the change can be done again.

    Raises:
        StoreError: it cannot be opened for another reason.
    """
    try:
        return shards.load(folder)
    except StoreError:
        for path in [*folder.glob(f"segments/*/{_SEGMENT}"), folder / _CONFIG]:
            _edit(path, lambda content: _without_vector(content, vector))
        for kind in ("vector_storage", "vector_index"):
            for leftover in folder.glob(f"segments/*/{kind}-*"):
                if leftover.name == f"{kind}-{vector}":
                    shutil.rmtree(leftover)
        return shards.load(folder)


def _edit(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return  # another kind of damage, which opening reports
    if not isinstance(content, dict):
        return
    replace_file(path, json.dumps(change(content), ensure_ascii=False))


def _without_vector(config: dict[str, Any], vector: str) -> dict[str, Any]:
    """A segment's or the collection's config without the vector."""
    lists = ("vector_data", "sparse_vector_data", "vectors", "sparse_vectors")
    return {
        key: {name: params for name, params in value.items() if name != vector}
        if key in lists and isinstance(value, dict)
        else (_without_vector(value, vector) if key == "config" and isinstance(value, dict) else value)
        for key, value in config.items()
    }
