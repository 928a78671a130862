"""One connection: HTTP/1.1 requests one after another, each answered before the next is read."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl

import orjson
from pydantic import BaseModel, ValidationError

from diptych import errors
from diptych.runtime.sockets import TimedReader
from diptych_edge.rest.routes import NoRoute, Routes

_STATUS: tuple[tuple[type[BaseException], int], ...] = (
    (errors.CollectionNotFound, 404),
    (errors.StoreUnsupported, 400),
    (errors.StoreLocked, 503),
    (errors.StoreUnavailable, 503),
    (errors.StoreFull, 507),
    (errors.StoreReadOnly, 403),
    (errors.StoreError, 500),
    (errors.DiptychError, 400),
    (NoRoute, 404),
    (LookupError, 404),
    (ValueError, 400),
)
_PARTS = ("what", "where", "got", "expected", "do")

MOST = 256 * 2**20  # bytes of a body
IDLE = 300.0  # seconds between two requests, and for one piece of an answer
HEAD = 10.0  # seconds from a request's first byte to the end of its headers
BODY, LEAST = 30.0, 2**20  # seconds for a body, and bytes that extend them by a second once they have come
_LINGER, _LINGERING = 2.0, 2**20  # seconds and bytes to read on after a refusal

_DIGITS = 16  # of a length, at most
FORBIDDEN = 403, "forbidden"


class Connection:
    """A connection's socket, and whether a request is being answered and further ones may follow."""

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
                with suppress(OSError):  # the other side was faster
                    self.socket.shutdown(socket.SHUT_RDWR)  # which wakes a blocked reader


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

    def setup(self) -> None:
        """Read through deadlines."""
        super().setup()
        self.rfile.close()
        self._incoming, self._refused = TimedReader(self.connection), False
        self.rfile = self._buffered = io.BufferedReader(self._incoming)

    def handle_one_request(self) -> None:
        """Wait for a request, and answer it."""
        try:
            self._incoming.allow(IDLE)
            self._buffered.peek(1)
        except TimeoutError:
            self.close_connection = True
            return
        self._incoming.allow(HEAD)
        super().handle_one_request()

    def finish(self) -> None:
        """End; a refusal is lost where the system finds unread bytes at the socket's end, so some are read."""
        super().finish()
        if self._refused:
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)
                self._incoming.allow(_LINGER)
                remaining, piece = _LINGERING, bytearray(65536)
                while remaining > 0 and (count := self._incoming.readinto(piece)):
                    remaining -= count

    def respond(self) -> None:
        """Answer any request."""
        if not self._permits(self):  # before a body of any size is taken in
            self._refuse(*FORBIDDEN)
            return
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
        text = self.headers.get("content-length") or "0"
        if "transfer-encoding" in self.headers:
            self._refuse(411, "a body needs a content-length")
            return None
        if not (text.isascii() and text.isdigit() and len(text) < _DIGITS):
            self._refuse(400, "the content-length is not a number of bytes")
            return None
        length = int(text)
        if length > MOST:
            self._refuse(413, f"a body of at most {MOST} bytes is taken")
            return None
        self._incoming.allow(BODY, rate=LEAST)
        try:
            body = self.rfile.read(length)
        except TimeoutError:
            self._refuse(408, "the body takes too long")
            return None
        if len(body) < length:
            self.close_connection = True
            return None
        return body

    def _refuse(self, status: int, text: str) -> None:
        self.close_connection = self._refused = True
        self._send(status, orjson.dumps({"status": {"error": text}, "time": 0.0}))

    def _send(self, status: int, content: bytes) -> None:
        self.connection.settimeout(IDLE)
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


def encoded(result: Any, seconds: float) -> bytes:
    """The JSON of a result."""
    return orjson.dumps({"result": result, "status": "ok", "time": seconds}, default=_serializable)


def refused(error: BaseException, seconds: float) -> tuple[int, bytes]:
    """Status and JSON of a failure. A DiptychError is also included in parts, so that it can be raised again."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    body: dict[str, Any] = {"status": {"error": _text(error)}, "time": seconds}
    if isinstance(error, errors.DiptychError):
        parts = {part: getattr(error, part) for part in _PARTS}
        body["diptych"] = {"kind": type(error).__name__, **parts, "context": _sendable(error.context)}
    return status, orjson.dumps(body)


def _sendable(context: dict[str, Any]) -> dict[str, Any]:
    """The facts of an error that JSON can hold."""
    facts = dict[str, Any]()
    for name, value in context.items():
        try:
            facts[name] = orjson.loads(orjson.dumps(value, default=_serializable))
        except (TypeError, ValueError):  # what else an error carries is of use in its own process alone
            continue
    return facts


def rebuilt(raw: dict[str, Any]) -> errors.DiptychError | None:
    """The DiptychError in an answer, if there is one."""
    parts = raw.get("diptych")
    if not isinstance(parts, dict):
        return None
    kind = getattr(errors, str(parts.get("kind")), None)
    if not (isinstance(kind, type) and issubclass(kind, errors.DiptychError)):
        kind = errors.StoreError  # of another version
    where, got, expected, do = (str(parts.get(part, "")) for part in _PARTS[1:])
    error = kind(str(parts.get("what")), where=where, got=got, expected=expected, do=do)
    context = parts.get("context")
    error.context = context if isinstance(context, dict) else {}
    return error


def _text(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        return f"Format error in JSON body: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    if isinstance(error, NoRoute):
        return f"the embedded store has no route {error}"
    return str(error) if isinstance(error, ValueError | LookupError | errors.DiptychError) else type(error).__name__


def _serializable(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.__dict__
    if isinstance(value, tuple | set):
        return list(value)
    raise TypeError(type(value).__name__)
