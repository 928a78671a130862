"""Serves a client of this process through Qdrant's REST routes, to Qdrant clients in any language.

Begin with `server`, then `routes`, which maps routes to calls. `connection` reads and answers HTTP.
"""

from diptych_edge.rest.routes import Routes
from diptych_edge.rest.server import RestServer

__all__ = ["RestServer", "Routes"]
