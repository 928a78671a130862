"""The embedded store: Qdrant Edge behind qdrant-client's own interface."""

from diptych.stores.edge.client import EdgeClient
from diptych.stores.edge.read_only import ReadOnlyEdgeClient
from diptych.stores.edge.share import SharedEdgeClient

__all__ = ["EdgeClient", "ReadOnlyEdgeClient", "SharedEdgeClient"]
