"""Limits the number and duration of connections, and sends each short answer as one packet, without delay."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

from diptych_serve.service.limits import Bounds

TOLD = 60.0  # seconds between two log lines that say the same
LOG = logging.getLogger("diptych.service")
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\n"
    b"Content-Length: 21\r\nConnection: close\r\n\r\ntoo many connections\n"
)


class JoinedWrites:
    """A transport that sends headers and body as one packet when they are written one after the other.

    What is written waits for the next write, at most until the event loop's next turn. A client is then woken once for
    a short answer, and one system call sends it.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._waiting = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send the data together with what waits, or let it wait."""
        if self._waiting:
            waiting, self._waiting = self._waiting, b""
            self._transport.writelines((waiting, data))
        elif data:
            self._waiting = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Close the transport once everything has been sent."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._waiting:
            self.write(b"")


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1 protocol with limits. Subclasses set `bounds`; see `bounded`."""

    bounds: ClassVar[Bounds] = Bounds()
    since = 0.0  # when it became idle, or its request began, by the loop's clock
    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Disable delayed packets for a new connection; if there are too many, close an idle one or this one."""
        super().connection_made(cast(asyncio.Transport, JoinedWrites(transport, self.loop)))
        self.since = self.loop.time()
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > self.bounds.connections and not close_longest_idle(self.connections, but=self):
            SELDOM.warning("connections", "a connection was refused: all %d are busy", self.bounds.connections)
            self.transport.write(_BUSY)
            self.transport.close()
            return
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        """Data arrived; unfinished headers do not extend the time limit."""
        was_idle = self.idle
        super().data_received(data)
        if self.idle:
            self._expect_headers()
        else:
            self._cancel()
            self.since = self.loop.time() if was_idle else self.since

    def on_response_complete(self) -> None:
        """An answer has been sent; the connection is idle from now on."""
        self.since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went away, or was closed."""
        self._cancel()
        super().connection_lost(exc)

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def is_slow(self) -> bool:
        """Whether the body of its request has been waited for as long as headers may take."""
        is_coming = self.cycle is not None and self.cycle.more_body
        return is_coming and self.loop.time() - self.since >= self.bounds.header_seconds

    def _expect_headers(self) -> None:
        if self._due is None:
            self._due = self.loop.call_later(self.bounds.header_seconds, self._too_slow)

    def _cancel(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _too_slow(self) -> None:
        self._due = None
        if self.idle:
            self.transport.abort()


def bounded(bounds: Bounds) -> type[Connection]:
    """A connection class with these limits."""
    return type("BoundedConnection", (Connection,), {"bounds": bounds})


def close_longest_idle(connections: set[Any], *, but: object = None) -> bool:
    """Close the connection that has been idle longest, or else the one whose body is waited for; False for none.

    Connections that never sent a request are closed first.
    """
    others = [connection for connection in connections if connection is not but]
    idle = [own for own in others if own.idle] or [own for own in others if own.is_slow]
    if not idle:
        return False
    chosen = min(idle, key=lambda connection: (connection.cycle is not None, connection.since))
    connections.discard(chosen)  # it is lost only at the loop's next turn, and another may be chosen before
    chosen.transport.abort()
    return True


class OnceAMinute(logging.Filter):
    """Lets a warning through once a minute, however often it comes; errors always.

    uvicorn warns of each invalid HTTP request, and anybody can send thousands a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        if record.levelno != logging.WARNING:
            return True
        last, self._last[record.msg] = self._last.get(record.msg, -TOLD), record.created
        if record.created - last >= TOLD:
            return True
        self._last[record.msg] = last
        return False


class Seldom:
    """Logs events that may occur thousands of times a second at most once a minute per topic."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def warning(self, topic: str, message: str, *values: object) -> None:
        """Log a warning, unless one of this topic was logged within the last minute."""
        now = time.monotonic()
        if now - self._last.get(topic, -TOLD) >= TOLD:
            self._last[topic] = now
            LOG.warning(message, *values)


SELDOM = Seldom()
