"""Runs uvicorn on a socket of the service's own, with an orderly end."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import uvicorn

from diptych.errors import ConfigError
from diptych.runtime.environment import is_loopback
from diptych_serve.service.api_keys import Keys
from diptych_serve.service.connections import SELDOM, OnceAMinute, bounded, close_longest_idle
from diptych_serve.service.limits import Bounds
from diptych_serve.service.shutdown import Ending

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
