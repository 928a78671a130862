"""Runs uvicorn on a socket of the service's own: `Connection` limits connections, `Ending` makes it end in time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, ClassVar, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from diptych.errors import ConfigError
from diptych.runtime.environment import is_loopback
from diptych_serve.service.access import Bounds, Keys

CLOSING = 1.0  # seconds for closing stores after the grace of requests, or after a second signal
INTERRUPTED = 130  # exit code after Ctrl-C

TOLD = 60.0  # seconds between two log lines that say the same
LOG = logging.getLogger("diptych.service")
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\n"
    b"Content-Length: 21\r\nConnection: close\r\n\r\ntoo many connections\n"
)

LOCAL = ("localhost", "127.0.0.1", "::1")
_PAUSE = 0.05  # seconds between two looks at whether requests are under way
BACKLOG = 512  # connections that wait to be accepted, and how often asyncio tries at once where it has no descriptor


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        ConfigError: the address is not available.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(
            "cannot listen at this address",
            where=f"{host}:{port}",
            got=error.strerror or str(error),
            do="choose another --port or --host",
        ) from error


def address(listening: socket.socket, host: str) -> str:
    """The URL of the socket."""
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"


def called(host: str, further: Sequence[str], keys: Keys) -> list[str]:
    """Host names that requests may use; [] for any name, if a key is required.

    Without a key, a web page that gave its own name this machine's address could ask through a visitor's browser.
    """
    if keys and not further:
        return []
    return [*LOCAL, host.strip("[]"), *further] if is_loopback(host) or further else []


class Server(uvicorn.Server):
    """uvicorn's server, extended to survive a lack of file descriptors and to end in time.

    Args:
        config: uvicorn's.
        ending: receives signals.
    """

    def __init__(self, config: uvicorn.Config, ending: Ending) -> None:
        super().__init__(config)
        self._ending = ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        asyncio.get_running_loop().set_exception_handler(self._failed)
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End in order. What is not closed a second after the last request is cut off."""
        watching = asyncio.create_task(self._watch_requests())
        try:
            await super().shutdown(sockets)
        finally:
            watching.cancel()

    async def _watch_requests(self) -> None:
        while self.server_state.tasks:
            await asyncio.sleep(_PAUSE)
        self._ending.requests_are_done()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGTERM or Ctrl-C: end in order, and in any case in time."""
        self._ending.begin(sig)
        super().handle_exit(sig, frame)

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle a failure in the event loop. A lack of descriptors would be logged hundreds of times a second."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            close_longest_idle(self.server_state.connections)
            SELDOM.warning("descriptors", "no connection can be accepted: %s", error.strerror)
        else:
            loop.default_exception_handler(context)


def server_of(app: Any, *, grace: int = 30, bounds: Bounds | None = None) -> Server:
    """uvicorn over an application, without request logs; running requests get `grace` seconds at the end."""
    bounds = (bounds or Bounds()).fitting()
    config = uvicorn.Config(
        app,
        http=bounded(bounds),
        timeout_keep_alive=bounds.idle_seconds,
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=grace,
        proxy_headers=False,
    )
    return Server(config, Ending(grace))


def run(app: Any, listening: socket.socket, *, grace: int, bounds: Bounds | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C: then accept no new requests and give running ones `grace` seconds.

    The process has ended a second after the last of them or after that time, or a second after another signal, whatever
    an encoder does.

    After SIGTERM it leaves with 0, through SystemExit, once the application has closed what it holds.
    """
    signal.signal(signal.SIGTERM, _leave)  # uvicorn gives the signal back once it is done
    server_of(app, grace=grace, bounds=bounds).run(sockets=[listening])


def log_to_stderr(level: int = logging.INFO) -> None:
    """Log diptych's lines, and uvicorn's warnings, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    for name, threshold in (("diptych", level), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(threshold)
    logging.getLogger("uvicorn.error").addFilter(OnceAMinute())


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


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


class Ending:
    """Ends the process within a time limit after the first signal, and within a second after the next one.

    It also ends within a second once no request is under way, so that a model that is being loaded is not waited for.

    What was acknowledged is in the store's write-ahead log, so a forced exit loses nothing.

    Args:
        grace: seconds for running requests to finish.
        orderly: called in a thread of its own after the first signal; the process ends when it has returned.
    """

    def __init__(self, grace: float, *, orderly: Callable[[], None] | None = None) -> None:
        self._grace, self._orderly, self._begun, self._code = grace, orderly, False, 0

    def begin(self, number: int) -> None:
        """Start to end after a signal. Called by its handler, in the main thread."""
        self._code = INTERRUPTED if number == signal.SIGINT else 0
        if self._orderly is not None and not self._begun:
            threading.Thread(target=_run, args=(self._orderly, self._code), name="diptych-end", daemon=True).start()
        self.bound()

    def requests_are_done(self) -> None:
        """After a signal, cut off in a second what is not closed. Called in the main thread."""
        if self._begun:
            self._leave_in(CLOSING)  # not by the kernel: Python may take longer to end on a busy machine

    def bound(self) -> None:
        """Arm the time limit. Called in the main thread."""
        seconds = CLOSING if self._begun else self._grace + CLOSING
        self._begun = True
        self._leave_in(seconds)
        # Have the kernel end the process: no Python thread runs while native code holds the GIL.
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, seconds + CLOSING)

    def _leave_in(self, seconds: float) -> None:
        timer = threading.Timer(seconds, leave, (self._code, "what was still under way is cut off"))
        timer.daemon = True
        timer.start()


def leave(code: int, reason: str = "") -> None:
    """End the process now, without waiting for any thread."""
    if reason:
        LOG.warning("the end: %s", reason)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _run(work: Callable[[], None], code: int) -> None:
    try:
        work()
    finally:
        leave(code)
