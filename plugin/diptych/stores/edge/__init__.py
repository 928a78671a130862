"""The embedded store: Qdrant Edge behind qdrant-client's own interface."""

from diptych.stores.edge.client import EdgeClient

__all__ = ["EdgeClient"]
