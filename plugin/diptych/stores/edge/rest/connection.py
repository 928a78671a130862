"""One connection: HTTP/1.1 requests one after another, each answered before the next is read."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl

import orjson

from diptych.stores.edge.rest.answers import encoded, refused
from diptych.stores.edge.rest.routes import Routes

MOST = 256 * 2**20  # bytes of a body
IDLE = 300.0  # seconds between two requests, and within one


class Connection:
    """State of a connection: whether a request is being answered, and whether more may follow."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self._lock, self._busy, self._ending = threading.Lock(), False, False

    def begin(self) -> bool:
        """Note that a request starts; false if the server is ending and the request must not be run."""
        with self._lock:
            self._busy = not self._ending
            return self._busy

    def done(self) -> bool:
        """Note that the request is done; returns whether the connection stays open."""
        with self._lock:
            self._busy = False
            return not self._ending

    def end(self) -> None:
        """Accept no further request: close at once, or after the current answer."""
        with self._lock:
            self._ending = True
            if not self._busy:
                shut(self.socket)


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "Qdrant-Edge", ""
    wbufsize = -1  # head and body go out together
    disable_nagle_algorithm = False  # set by whoever accepts, because a Unix socket has none
    timeout = IDLE

    def __init__(self, connection: Connection, routes: Routes, permits: Callable[[Handler], bool]) -> None:
        self._state, self._routes, self._permits = connection, routes, permits
        super().__init__(connection.socket, ("", 0), None)  # type: ignore[arg-type]  # no server of http.server

    def respond(self) -> None:
        """Answer any request."""
        body = self._body()
        if body is None:
            return
        if not self._state.begin():
            self.close_connection = True
            return
        try:
            self._send(*self._answer(body))
        finally:
            self.close_connection |= not self._state.done()

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = respond  # noqa: N815 - names of http.server

    def _answer(self, body: bytes) -> tuple[int, bytes]:
        start = time.perf_counter()
        path, _, query = self.path.partition("?")
        try:
            if not self._permits(self):
                return refused_access()
            if path in ("/healthz", "/livez", "/readyz"):
                return 200, b'{"title":"ok"}'
            content = orjson.loads(body) if body else None
            result = self._routes.answer(self.command, path, content, dict(parse_qsl(query)))
            if path == "/":
                return 200, orjson.dumps(result, default=vars)  # the one answer without an envelope
            return 200, encoded(result, time.perf_counter() - start)
        except BaseException as error:  # a panic of the engine too must not take the connection along
            return refused(error, time.perf_counter() - start)

    def _body(self) -> bytes | None:
        """The whole body; None if the request was refused."""
        length = self.headers.get("content-length") or "0"
        if "transfer-encoding" in self.headers or not length.isdigit():
            self._refuse(411, "a body needs a content-length")
            return None
        if int(length) > MOST:
            self._refuse(413, f"a body of at most {MOST} bytes is taken")
            return None
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return None
        return body

    def _refuse(self, status: int, text: str) -> None:
        self.close_connection = True
        self._send(status, orjson.dumps({"status": {"error": text}, "time": 0.0}))

    def _send(self, status: int, content: bytes) -> None:
        self.send_response_only(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        if self.close_connection:
            self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse a request that http.server rejects, in the format of all refusals."""
        self.request_version = self.protocol_version
        self._refuse(code, message or "this is no request")

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the client is told what was wrong."""


def refused_access() -> tuple[int, bytes]:
    """The answer to a client without access."""
    return 403, orjson.dumps({"status": {"error": "forbidden"}, "time": 0.0})


def shut(accepted: socket.socket) -> None:
    """Shut down both directions, which wakes a blocked reader."""
    try:
        accepted.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was faster
