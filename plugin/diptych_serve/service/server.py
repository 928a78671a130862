"""Runs uvicorn on a socket of the service's own: `Ending` makes it end in time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, ClassVar

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from diptych.errors import ConfigError
from diptych.runtime.environment import is_loopback
from diptych_serve.service.access import Keys

CLOSING = 1.0  # seconds for closing stores after the grace of requests, or after a second signal
HEADER_SECONDS, IDLE_SECONDS = 10.0, 60
INTERRUPTED = 130  # exit code after Ctrl-C

LOG = logging.getLogger("diptych.service")
LOCAL = ("localhost", "127.0.0.1", "::1")
_PAUSE = 0.05  # seconds between two looks at whether requests are under way
BACKLOG = 512  # connections that wait to be accepted


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        ConfigError: the address is not available.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=BACKLOG)
    except OSError as error:
        got, do = error.strerror or str(error), "choose another --port or --host"
        raise ConfigError("cannot listen at this address", where=f"{host}:{port}", got=got, do=do) from error


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
    """uvicorn's server, extended to end in time.

    Args:
        config: uvicorn's.
        ending: receives signals.
    """

    def __init__(self, config: uvicorn.Config, ending: Ending) -> None:
        super().__init__(config)
        self._ending = ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End in order. What is not closed a second after the last request is cut off."""

        async def watch_requests() -> None:
            while self.server_state.tasks:
                await asyncio.sleep(_PAUSE)
            self._ending.requests_are_done()

        watching = asyncio.create_task(watch_requests())
        try:
            await super().shutdown(sockets)
        finally:
            watching.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGTERM or Ctrl-C: end in order, and in any case in time."""
        self._ending.begin(sig)
        super().handle_exit(sig, frame)


def server_of(
    app: Any, *, grace: int = 30, header_seconds: float = HEADER_SECONDS, idle_seconds: int = IDLE_SECONDS
) -> Server:
    """uvicorn over an application, without request logs.

    Args:
        app: what answers.
        grace: seconds that running requests get at the end.
        header_seconds: until the headers of a request have come, from the connection or the request's first byte.
        idle_seconds: that a connection is kept between two requests.
    """
    config = uvicorn.Config(
        app,
        http=type("TimedConnection", (Connection,), {"header_seconds": header_seconds}),
        timeout_keep_alive=idle_seconds,
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


def run(app: Any, listening: socket.socket, **times: Any) -> None:
    """Serve until SIGTERM or Ctrl-C: then accept no new requests and give running ones `grace` seconds.

    The process has ended a second after the last of them or after that time, or a second after another signal, whatever
    an encoder does.

    After SIGTERM it leaves with 0, through SystemExit, once the application has closed what it holds. `times`: as
    `server_of`.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))  # uvicorn gives the signal back once it is done
    server_of(app, **times).run(sockets=[listening])


def log_to_stderr(level: int = logging.INFO) -> None:
    """Log diptych's lines, and uvicorn's errors, to standard error. uvicorn warns of what any client can send."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    for name, threshold in (("diptych", level), ("uvicorn", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(threshold)


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, with a limit of the time that headers take. Subclasses set `header_seconds`."""

    header_seconds: ClassVar[float] = HEADER_SECONDS
    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a client."""
        super().connection_made(transport)
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        """Data arrived; unfinished headers do not extend the time limit."""
        super().data_received(data)
        if self._is_idle():
            self._expect_headers()
        else:
            self._cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went away, or was closed."""
        self._cancel()
        super().connection_lost(exc)

    def _is_idle(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def _expect_headers(self) -> None:
        def end_if_idle() -> None:
            self._due = None
            if self._is_idle():
                self.transport.abort()

        if self._due is None:
            self._due = self.loop.call_later(self.header_seconds, end_if_idle)

    def _cancel(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None


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
