"""Names of stores in records and messages: the same text in every process, without secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

_MEMORIES: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def place_of(client: QdrantBase) -> str:
    """The store behind a client: `edge:/folder`, a server's URL, or a name that only this `memory:` store has."""
    path = getattr(client, "path", None)
    if path is not None:
        return f"edge:{path}"
    options = getattr(client, "init_options", None)
    if options is None:
        return type(client).__qualname__
    if options.get("location") == ":memory:":
        return _MEMORIES.setdefault(client, f"memory:{uuid4().hex[:12]}")
    if options.get("path") is not None:
        return f"local:{options['path']}"
    return _server(options)


def _server(options: dict[str, Any]) -> str:
    url = options.get("url") or options.get("location")
    if not url:
        port = options.get("grpc_port") if options.get("prefer_grpc") else options.get("port")
        return f"{options.get('host') or 'localhost'}:{port}"
    parts = urlsplit(str(url) if "://" in str(url) else f"http://{url}")
    port = parts.port or options.get("port") or (443 if parts.scheme == "https" else 80)
    return f"{parts.hostname}:{port}{parts.path.rstrip('/')}"
