"""The embedded store: Qdrant Edge behind qdrant-client's own interface."""

from qdrant_edge_client.client import EdgeClient
from qdrant_edge_client.read_only import ReadOnlyEdgeClient
from qdrant_edge_client.share import SharedEdgeClient

__all__ = ["EdgeClient", "ReadOnlyEdgeClient", "SharedEdgeClient"]
