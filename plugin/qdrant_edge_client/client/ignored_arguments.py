"""Arguments of qdrant-client's methods that have no effect here: ignored when harmless, refused otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qdrant_edge_client.errors import StoreError, StoreUnsupported

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
