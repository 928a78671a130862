"""Arguments and methods that need a server: harmless arguments are ignored, all others refused in the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from qdrant_edge_client.errors import StoreError, StoreUnsupported

SERVER_METHODS = (
    "list_snapshots", "create_snapshot", "delete_snapshot", "recover_snapshot",
    "list_full_snapshots", "create_full_snapshot", "delete_full_snapshot",
    "list_shard_snapshots", "create_shard_snapshot", "delete_shard_snapshot", "recover_shard_snapshot",
    "create_shard_key", "delete_shard_key", "list_shard_keys",
    "cluster_collection_update", "collection_cluster_info", "cluster_status", "cluster_telemetry",
    "recover_current_peer", "remove_peer",
)  # fmt: skip
HARMLESS = frozenset(
    {"wait", "ordering", "timeout", "consistency", "batch_size", "parallel", "method", "max_retries", "wal_config"}
)
SERVER_ONLY = frozenset(
    {
        "shard_key_selector", "shard_key", "shard_number", "sharding_method", "replication_factor",
        "write_consistency_factor", "strict_mode_config", "init_from",
    }
)  # fmt: skip
_NEUTRAL = (None, 1)  # one shard, one replica: what Edge has


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


def check_arguments(method: str, arguments: Mapping[str, Any]) -> None:
    """Ignore harmless arguments, refuse others.

    Raises:
        StoreUnsupported: an argument that only a server can honour.
        StoreError: an argument that the method does not have.
    """
    for name, value in arguments.items():
        if name in HARMLESS or (name in SERVER_ONLY and value in _NEUTRAL):
            continue
        if name in SERVER_ONLY:
            raise unsupported(f"{method}(..., {name}=...)", got=repr(value))
        raise StoreError(f"{method}() has no argument {name!r}", where="EdgeClient", do="leave it out")


def unsupported(what: str, *, got: str = "") -> StoreUnsupported:
    """The error for everything that only a server can do."""
    return StoreUnsupported(
        f"the embedded store has no {what}",
        where="EdgeClient",
        got=got,
        do="use a store that has it, a Qdrant server: store: http(s)://...",
    )
