"""Tells qdrant-client's local mode from a server: both are a `QdrantClient`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase


def is_local(client: QdrantBase) -> bool:
    """Whether the client is in local mode, which has no payload indexes and does not round vectors."""
    options: Any = getattr(client, "init_options", None) or {}
    return options.get("location") == ":memory:" or options.get("path") is not None
