"""Serves a client of this process through Qdrant's REST routes, to Qdrant clients in any language.

Begin with `server`, then `routes`, which maps routes to calls. `collections` and `points` are the handlers.
"""

from qdrant_edge_client.rest.routes import Routes
from qdrant_edge_client.rest.server import RestServer

__all__ = ["RestServer", "Routes"]
