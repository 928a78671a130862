"""Qdrant's REST routes over a client of this process: any Qdrant client in any language can be the other side."""

from diptych.stores.edge.rest.routes import Routes
from diptych.stores.edge.rest.server import RestServer

__all__ = ["RestServer", "Routes"]
