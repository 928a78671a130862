"""Qdrant's REST routes over a client of this process, for Qdrant clients in any language."""

from qdrant_edge_client.rest.routes import Routes
from qdrant_edge_client.rest.server import RestServer

__all__ = ["RestServer", "Routes"]
