"""Qdrant's REST routes over a client of this process, for Qdrant clients in any language."""

from diptych.stores.edge.rest.routes import Routes
from diptych.stores.edge.rest.server import RestServer

__all__ = ["RestServer", "Routes"]
