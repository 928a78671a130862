"""Serves Qdrant's routes in threads of this process, on a given socket."""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diptych_edge.rest.connection import Connection
    from diptych_edge.rest.routes import Routes

_PAUSE = 0.02  # seconds
GRACE = 30.0  # seconds for the answers that are being made when the server ends


class RestServer:
    """Serves `listener` from `start()` to `close()`. Its threads do not keep the process alive.

    HTTP modules are imported only at the first connection.

    Args:
        listener: a listening socket, which is closed with the server.
        routes: creates the routes, at the first connection.
        admits: whether to accept a connection, by its socket.
        permits: whether to answer a request, by its handler with `headers`.
    """

    def __init__(
        self,
        listener: socket.socket,
        routes: Callable[[], Routes],
        *,
        admits: Callable[[socket.socket], bool] = lambda accepted: True,
        permits: Callable[[Any], bool] = lambda handler: True,
    ) -> None:
        self._listener, self._make, self._admits, self._permits = listener, routes, admits, permits
        self._wake, self._woken = socket.socketpair()
        self._lock, self._ending = threading.Lock(), False
        self._connections: dict[Connection, threading.Thread] = {}
        self._routes: Routes | None = None
        self._making = threading.Lock()
        self._accepting = threading.Thread(target=self._accept, name="edge answers", daemon=True)
        listener.setblocking(False)

    def start(self) -> None:
        """Start serving."""
        self._accepting.start()

    def close(self) -> None:
        """Accept no more connections, finish running answers, and close the sockets; a second call does nothing."""
        with self._lock:
            if self._ending:
                return
            self._ending = True
        with suppress(OSError):
            self._wake.send(b"x")
        self._join(self._accepting)
        with self._lock:
            open_now = dict(self._connections)
        for connection in open_now:
            connection.end()
        for thread in open_now.values():
            self._join(thread)
        for owned in (self._listener, self._wake, self._woken):
            owned.close()

    def leave_to_parent(self) -> None:
        """In a forked process: close the copies of the sockets, or the others would not see the parent's end."""
        self._ending = True
        for owned in (self._listener, self._wake, self._woken, *(c.socket for c in list(self._connections))):
            descriptor = owned.detach()  # its close() would wait for the files made of it
            if descriptor >= 0:
                os.close(descriptor)

    @staticmethod
    def _join(thread: threading.Thread) -> None:
        if thread.ident is not None and thread is not threading.current_thread():
            thread.join(GRACE)

    def _accept(self) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(self._listener, selectors.EVENT_READ)
            ready.register(self._woken, selectors.EVENT_READ)
            while not self._ending:
                if any(key.fileobj is self._woken for key, _ in ready.select()):
                    return
                try:
                    self._take(self._listener.accept()[0])
                except (OSError, RuntimeError, MemoryError):  # the client has gone, or no descriptor or thread is left
                    time.sleep(_PAUSE)

    def _take(self, accepted: socket.socket) -> None:
        from diptych_edge.rest.connection import Connection

        accepted.setblocking(True)
        if accepted.family in (socket.AF_INET, socket.AF_INET6):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(accepted)
        thread = threading.Thread(target=self._serve, args=(connection,), name="edge answer", daemon=True)
        with self._lock:
            if self._ending or not self._admits(accepted):
                accepted.close()
                return
            self._connections[connection] = thread
        try:
            thread.start()
        except BaseException:  # no thread is to be had
            with self._lock:
                del self._connections[connection]
            accepted.close()
            raise

    def _serve(self, connection: Connection) -> None:
        from diptych_edge.rest.connection import Handler

        try:
            with suppress(OSError, ValueError):  # the client may go at any moment, even while its socket is set up
                Handler(connection, self._shared_routes(), self._permits)
        finally:
            with self._lock:
                self._connections.pop(connection, None)
            connection.socket.close()

    def _shared_routes(self) -> Routes:
        with self._making:  # two sets of routes would not know of one another's optimisations
            if self._routes is None:
                self._routes = self._make()
            return self._routes
