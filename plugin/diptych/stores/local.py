"""qdrant-client's local mode, told from a server: both are a `QdrantClient`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase


def is_local(client: QdrantBase) -> bool:
    """Whether it is local mode, which keeps no payload indexes and rounds no vectors."""
    options: Any = getattr(client, "init_options", None) or {}
    return options.get("location") == ":memory:" or options.get("path") is not None
