"""An embedded store for more than one process: who holds the engine answers the others over a socket."""

from diptych.stores.edge.share.client import SharedEdgeClient

__all__ = ["SharedEdgeClient"]
