"""qdrant-client's interface over Qdrant Edge, the engine in this process."""

from __future__ import annotations

import logging
import weakref
from concurrent.futures import Future
from functools import partial
from importlib.metadata import version
from pathlib import Path
from threading import RLock, Thread
from typing import TYPE_CHECKING, Any, Self, cast
from uuid import uuid4

from qdrant_client import models

from diptych_edge.client.base import EdgeBase, check_arguments, refuse_server_methods
from diptych_edge.client.collections import Aliases, Collections, Schema
from diptych_edge.client.search import Grouping, Matrix
from diptych_edge.client.write_points import WritePoints
from diptych_edge.engine.catalog import ClosedCatalog, Engine, Holder
from diptych_edge.engine.collection import EdgeCollection, deleted_points, needs_optimizing, wasteful
from diptych_edge.engine.folders import PATIENCE
from diptych_edge.engine.native_errors import edge_errors
from diptych_edge.engine.optimization import OnStage, Optimization
from diptych_edge.health.repair import RepairReport

if TYPE_CHECKING:
    from diptych_edge.engine.catalog import Catalog

logger = logging.getLogger(__name__)


class Optimizing(EdgeBase):
    """The part of EdgeClient that builds indexes."""

    _futures: dict[EdgeCollection, Future[bool]]
    _starting: RLock

    def optimize(self, collection_name: str, *, wait: bool = True, on_stage: OnStage | None = None) -> Future[bool]:
        """Build missing indexes in another process; returns whether anything was built.

        Searches and writes go on meanwhile. A second call while one runs joins it.

        Args:
            wait: return when it is done, and raise what went wrong; else at once.
            on_stage: is told each stage as it begins, see `optimize.STAGES`.

        Raises:
            StoreError: the optimizer failed. The collection is as it was.
        """
        collection = self._find(collection_name)
        with self._starting:
            future = self._futures.get(collection) or self._start(collection, on_stage)
        if wait:
            future.result()
        return future

    def _maintain(self, collection: EdgeCollection) -> None:
        """Reclaim the space of deleted points, which would otherwise fill the disk in a long-lived process."""
        with self._starting:
            if collection not in self._futures and wasteful(collection):
                self._start(collection, None).add_done_callback(partial(_log_failure, collection))

    def needs_optimizing(self, collection_name: str) -> bool:
        """Whether enough vectors lack an index that `optimize` would build one."""
        return needs_optimizing(self._find(collection_name))

    def get_optimizations(self, collection_name: str, **kwargs: Any) -> models.OptimizationsResponse:
        """The running optimisations, and how much is waiting."""
        check_arguments("get_optimizations", {k: v for k, v in kwargs.items() if k not in ("with_", "completed_limit")})
        collection = self._find(collection_name)
        info, waits = collection.shard.read(lambda edge_shard: edge_shard.info()), int(needs_optimizing(collection))
        summary = models.OptimizationsSummary(
            queued_optimizations=waits,
            queued_segments=waits,
            queued_points=waits * info.points_count,
            idle_segments=info.segments_count - waits,
        )
        running = [
            models.Optimization(
                uuid=uuid4(),
                optimizer="aside",
                status=models.TrackerStatusOneOf.OPTIMIZING,
                segments=[],
                progress=models.ProgressTree(name=run.stage),
            )
            for run in [collection.run]
            if run is not None
        ]
        return models.OptimizationsResponse(summary=summary, running=running)

    def repair(self, collection_name: str) -> RepairReport | None:
        """Rebuild a damaged collection from what can be read of it; None if it opens as it is.

        Indexes are built anew by the next `optimize`. See `RepairReport` for what could not be read.
        """
        return self._catalog.repair(collection_name)

    def changed_files(self, collection_name: str) -> list[str]:
        """Large files that changed since the collection was closed; small ones are compared at each opening.

        Reads all of them. Also empty where it cannot be known: after a kill, or after a write since the opening.
        """
        ledger = self._find(collection_name).shard.ledger
        return list(ledger.changed_files())

    def _start(self, collection: EdgeCollection, on_stage: OnStage | None) -> Future[bool]:
        future: Future[bool] = Future()
        run = collection.run = Optimization(collection, on_stage)
        self._futures[collection] = future

        def work() -> None:
            try:
                with edge_errors(collection.record.name, reading=False):
                    changed = run.run()
                    collection.kept_deleted = deleted_points(collection)
            # The run ends before its future: who has waited for that may call `optimize` again, and must get a new run.
            except BaseException as error:  # the future hands it to whoever waits
                self._end(collection)
                future.set_exception(error)
            else:
                self._end(collection)
                future.set_result(changed)

        Thread(target=work, name=f"optimize {collection.record.name}", daemon=True).start()
        return future

    def _end(self, collection: EdgeCollection) -> None:
        with self._starting:
            collection.run = None
            del self._futures[collection]


class EdgeClient(Collections, Aliases, Schema, WritePoints, Grouping, Matrix, Optimizing):
    """A Qdrant in a folder, for one process: the same calls as `QdrantClient`, the real engine, no server.

    `path` holds any number of collections. Calls from several threads are safe; what a write call has returned from
    is in the engine's write-ahead log and survives a kill. What only a server can do raises `StoreUnsupported`.
    Clients of one path share the engine, which is closed with the last of them. After a fork they are the parent's.

    Args:
        create: make a store where there is none; if false, that is an error and nothing is made.
        patience: seconds to try for while another process holds the store, which may be ending.
        share: whether other processes are answered over a socket: `SharedEdgeClient`, `open_store("edge:PATH")`.

    Raises:
        StoreLocked: another process has the path open.
        StoreError: the path cannot be opened, holds no store that may be made, or one of somebody else or with damage.
    """

    def __init__(
        self, path: str | Path, *, create: bool = True, patience: float = PATIENCE, share: bool = True
    ) -> None:
        self.path = Path(path).expanduser().resolve()
        serve = self._holder_for if share else None
        engine = Engine.join(self.path, create=create, patience=patience, serve=serve)
        self._use(engine)
        self._finalizer: weakref.finalize[..., EdgeClient] = weakref.finalize(self, engine.leave)

    @classmethod
    def over(cls, engine: Engine) -> Self:
        """A client that is not counted: it lives as long as the engine."""
        client = cls.__new__(cls)
        client.path = engine.path
        client._use(engine)
        return client

    def _use(self, engine: Engine) -> None:
        self._catalog, self._futures, self._starting = engine.catalog, engine.futures, engine.starting

    @staticmethod
    def _holder_for(engine: Engine) -> Holder:
        from diptych_edge.share.address import Holder

        return Holder(engine.path, lambda: EdgeClient.over(engine))

    def close(self, **kwargs: Any) -> None:
        """Close this client. The last one of the process flushes and frees the path. May be repeated."""
        check_arguments("close", {name: value for name, value in kwargs.items() if name != "grpc_grace"})
        self._catalog = cast("Catalog", ClosedCatalog(self.path))
        self._finalizer()

    def info(self) -> models.VersionInfo:
        """Name and version of the engine."""
        return models.VersionInfo(title="Qdrant Edge", version=version("qdrant-edge-py"), commit=None)


refuse_server_methods(EdgeClient)


def _log_failure(collection: EdgeCollection, future: Future[bool]) -> None:
    """Log the failure of an optimisation that started by itself; the collection is unchanged, and it is tried again.

    One that closing has cancelled is no failure.
    """
    if (error := future.exception()) is not None and not collection.closing:
        logger.warning("the collection could not be optimised: %s", error)
