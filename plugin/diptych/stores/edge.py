"""The embedded store `qdrant_edge_client`, under the import path of diptych's documentation."""

from __future__ import annotations

from qdrant_edge_client import EdgeClient, ReadOnlyEdgeClient, SharedEdgeClient

__all__ = ["EdgeClient", "ReadOnlyEdgeClient", "SharedEdgeClient"]
