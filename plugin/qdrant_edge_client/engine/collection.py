"""One collection: its folder, its record and its shard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Any, Protocol
from uuid import uuid4

import qdrant_edge as edge
from qdrant_client import models

from qdrant_edge_client.convert.config import (
    PLACEHOLDER,
    dense_vectors,
    edge_config,
    has_vectors,
    member,
    modifier,
    multivector,
    vectors_of,
)
from qdrant_edge_client.convert.points import Space, VectorKind
from qdrant_edge_client.engine import shard as shards
from qdrant_edge_client.engine.folders import remove
from qdrant_edge_client.engine.mend_vectors import load_mended
from qdrant_edge_client.engine.shard import Shard
from qdrant_edge_client.engine.sidecar import RECORD, SHARD, UNFINISHED, Record, sync_folder
from qdrant_edge_client.health.inspection import begin, inspect
from qdrant_edge_client.health.ledger import Ledger
from qdrant_edge_client.health.seal import break_seal
from qdrant_edge_client.health.wal import log_end


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
        edge_shard = _loaded(shard_folder, record.pending)
        try:
            collection = cls(folder, record, Shard(edge_shard, record.name, begin(shard_folder, edge_shard, findings)))
        except BaseException:
            edge_shard.close()
            raise
        for leftover in folder.glob(f"{SHARD}*"):  # only now: were the record wrong, it might be the data
            if leftover.name != record.shard:
                remove(leftover)
        if record.pending:
            collection._finish(record.pending)
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


def _loaded(shard_folder: Path, pending: dict[str, Any] | None) -> Any:
    if pending is None:
        return shards.load(shard_folder)
    return load_mended(shard_folder, pending.get("drop") or pending["add"])


def _space(config: models.CreateCollection) -> Space:
    space: dict[str, tuple[VectorKind, int]] = {}
    for name, params in dense_vectors(config).items():
        space[name] = ("multivector" if params.multivector_config else "dense", params.size)
    return {**space, **dict.fromkeys(config.sparse_vectors or {}, ("sparse", 0))}


def _operation(pending: dict[str, Any]) -> Any:
    """Edge's operation for a change of named vectors."""
    if "drop" in pending:
        return edge.UpdateOperation.delete_vector_name(pending["drop"])
    name, raw = pending["add"], pending["config"]
    if "dense" in raw:
        return _dense_operation(name, models.DenseVectorConfig(**raw["dense"]))
    config = models.SparseVectorConfig(**raw["sparse"])
    datatype = member(edge.VectorStorageDatatype, config.datatype)
    return edge.UpdateOperation.create_sparse_vector(name, modifier(config.modifier), datatype)


def _changed(record: Record, pending: dict[str, Any]) -> Record:
    """The record after the change."""
    if "drop" in pending:
        return _without(record, pending["drop"])
    name, raw = pending["add"], pending["config"]
    if "dense" in raw:
        return _with_dense(record, name, models.DenseVectorConfig(**raw["dense"]))
    config = models.SparseVectorConfig(**raw["sparse"])
    index = models.SparseIndexParams(datatype=models.Datatype(config.datatype.value)) if config.datatype else None
    params = models.SparseVectorParams(modifier=config.modifier, index=index)
    vectors = {**(record.config.sparse_vectors or {}), name: params}
    return replace(record.with_config(sparse_vectors=vectors), pending=None)


def _dense_operation(name: str, config: models.DenseVectorConfig) -> Any:
    return edge.UpdateOperation.create_dense_vector(
        name,
        config.size,
        member(edge.Distance, config.distance),
        multivector(config.multivector_config),
        member(edge.VectorStorageDatatype, config.datatype),
    )


def _with_dense(record: Record, name: str, config: models.DenseVectorConfig) -> Record:
    datatype = models.Datatype(config.datatype.value) if config.datatype else None
    params = models.VectorParams(
        size=config.size,
        distance=config.distance,
        multivector_config=config.multivector_config,
        datatype=datatype,
    )
    vectors = vectors_of({**dense_vectors(record.config), name: params})
    return replace(record.with_config(vectors=vectors), pending=None)


def _without(record: Record, name: str) -> Record:
    dense = {vector: params for vector, params in dense_vectors(record.config).items() if vector != name}
    sparse = {vector: params for vector, params in (record.config.sparse_vectors or {}).items() if vector != name}
    return replace(record.with_config(vectors=vectors_of(dense), sparse_vectors=sparse or None), pending=None)
