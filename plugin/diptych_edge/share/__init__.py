"""Shares an embedded store between processes: the process that holds the engine serves the others over a socket.

Begin with `client`, which takes the engine or connects to its holder. `remote` is the client of the
other processes, `address` says where the socket is and admits only processes of the same user.
"""

from diptych_edge.share.client import SharedEdgeClient

__all__ = ["SharedEdgeClient"]
