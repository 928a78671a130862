"""qdrant-client's interface over Qdrant Edge, the engine in this process."""

from __future__ import annotations

import weakref
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from qdrant_client import models

from qdrant_edge_client.client.collections import Aliases, Collections
from qdrant_edge_client.client.distance_matrix import Matrix
from qdrant_edge_client.client.groups import Grouping
from qdrant_edge_client.client.optimize import Optimizing
from qdrant_edge_client.client.schema import Schema
from qdrant_edge_client.client.unsupported import check_arguments, refuse_server_methods
from qdrant_edge_client.client.upload import Uploading
from qdrant_edge_client.client.write_points import WritePoints
from qdrant_edge_client.engine.catalog import ClosedCatalog
from qdrant_edge_client.engine.lock import PATIENCE
from qdrant_edge_client.engine.shared_engine import Engine, Holder

if TYPE_CHECKING:
    from qdrant_edge_client.engine.catalog import Catalog


class EdgeClient(Collections, Aliases, Schema, WritePoints, Uploading, Grouping, Matrix, Optimizing):
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
        from qdrant_edge_client.share.holder import Holder

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
