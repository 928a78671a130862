"""qdrant-client's interface over Qdrant Edge, the engine inside this process. Usable without diptych.

Begin with `client` (what it can do), then `engine` (folders, records, and the shard that can be exchanged while in
use). `convert` translates models, `share` serves other processes, `rest` other languages, `health` checks and
repairs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diptych_edge.client.edge_client import EdgeClient
    from diptych_edge.client.read_only import ReadOnlyEdgeClient
    from diptych_edge.share.client import SharedEdgeClient

__all__ = ["EdgeClient", "ReadOnlyEdgeClient", "SharedEdgeClient"]
_LATER = {
    "EdgeClient": "client.edge_client",
    "ReadOnlyEdgeClient": "client.read_only",
    "SharedEdgeClient": "share.client",
}


def __getattr__(name: str) -> Any:
    """Import the clients on first use: `errors` alone needs neither qdrant-client nor the engine."""
    if name in _LATER:
        return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
