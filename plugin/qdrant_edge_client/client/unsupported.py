"""Methods that need a server. All are refused in the same way, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from qdrant_edge_client.client.ignored_arguments import unsupported

SERVER_METHODS = (
    "list_snapshots", "create_snapshot", "delete_snapshot", "recover_snapshot",
    "list_full_snapshots", "create_full_snapshot", "delete_full_snapshot",
    "list_shard_snapshots", "create_shard_snapshot", "delete_shard_snapshot", "recover_shard_snapshot",
    "create_shard_key", "delete_shard_key", "list_shard_keys",
    "cluster_collection_update", "collection_cluster_info", "cluster_status", "cluster_telemetry",
    "recover_current_peer", "remove_peer",
)  # fmt: skip


def refuse_server_methods(client: type[Any]) -> type[Any]:
    """Class decorator: give `client` each of `SERVER_METHODS` as a method that raises StoreUnsupported."""
    for name in SERVER_METHODS:
        setattr(client, name, _refusal(name))
    return client


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        raise unsupported(f"{name}()")

    refuse.__name__ = refuse.__qualname__ = name
    refuse.__doc__ = "Take a server; this store raises StoreUnsupported."
    return refuse
