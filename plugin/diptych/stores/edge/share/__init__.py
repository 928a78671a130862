"""Shares an embedded store between processes: the holder of the engine serves the others over a socket."""

from diptych.stores.edge.share.client import SharedEdgeClient

__all__ = ["SharedEdgeClient"]
