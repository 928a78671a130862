"""The embedded store `diptych_edge`, under the import path of diptych's documentation."""

from __future__ import annotations

from diptych_edge import EdgeClient, ReadOnlyEdgeClient, SharedEdgeClient

__all__ = ["EdgeClient", "ReadOnlyEdgeClient", "SharedEdgeClient"]
