"""httpx transport to a holder's socket. It opens connections itself, to check the process at the other end."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import httpcore
import httpx

from diptych.errors import StoreUnavailable
from diptych_edge.share.address import Address, is_stopped, may_serve

Answer = TypeVar("Answer")
LOOK = 5.0  # seconds after which it is looked at whether the holder is stopped

LIMITS = httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=60)


def transport(address: Address) -> httpx.HTTPTransport:
    """A transport that connects only to the holder at `address`."""
    http_transport = httpx.HTTPTransport(uds=address.unix or None, limits=LIMITS)
    if address.unix:
        # httpx has no argument for a network backend, so its pool is replaced.
        http_transport._pool = httpcore.ConnectionPool(
            max_connections=LIMITS.max_connections,
            max_keepalive_connections=LIMITS.max_keepalive_connections,
            keepalive_expiry=LIMITS.keepalive_expiry,
            uds=address.unix,
            network_backend=_Backend(address),
        )
    return http_transport


class _Backend(httpcore.SyncBackend):
    def __init__(self, address: Address) -> None:
        self._address = address

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        """A connection to the holder.

        Raises:
            ConnectError: nobody listens, or another user does.
        """
        try:
            connected = self._address.connect()
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        if not may_serve(connected):
            connected.close()
            raise httpcore.ConnectError("another user listens at the socket")
        return _Stream(connected)


class _Stream(httpcore.NetworkStream):
    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Some bytes; none at the end."""
        try:
            return self._wait_for(lambda: self._socket.recv(max_bytes), timeout)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        remaining = memoryview(buffer)
        try:
            while remaining:
                remaining = remaining[self._wait_for(lambda: self._socket.send(remaining), timeout) :]  # noqa: B023 - called at once
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    def _wait_for(self, call: Callable[[], Answer], timeout: float | None) -> Answer:
        """The result of `call`, which waits for the holder; a holder that is stopped is not waited for.

        Raises:
            TimeoutError: nothing came in time.
            StoreUnavailable: the holder is stopped.
        """
        end = time.monotonic() + (math.inf if timeout is None else timeout)
        # In slices of LOOK seconds: a stopped process keeps its sockets open, so waiting alone would not show it.
        while True:
            self._socket.settimeout(max(0.001, min(LOOK, end - time.monotonic())))
            try:
                return call()
            except TimeoutError:
                if (process := is_stopped(self._socket)) is not None:
                    raise _stopped(process) from None
                if time.monotonic() >= end:
                    raise

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def get_extra_info(self, info: str) -> Any:
        """Tell the pool whether the other side has closed a kept connection."""
        return _is_readable(self._socket) if info == "is_readable" else None


def _stopped(process: int) -> StoreUnavailable:
    return StoreUnavailable(
        "the process that holds the embedded store is stopped",
        got=f"process {process} does not run",
        do=f"let it go on (kill -CONT {process}), or end it: this process then takes over",
        stopped=process,
    )


def _is_readable(connected: socket.socket) -> bool:
    """Whether unexpected bytes, or the end of the stream, can be read."""
    try:
        connected.settimeout(0)
        connected.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
