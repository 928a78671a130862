"""Shares an embedded store between processes: the holder of the engine serves the others over a socket."""

from qdrant_edge_client.share.client import SharedEdgeClient

__all__ = ["SharedEdgeClient"]
