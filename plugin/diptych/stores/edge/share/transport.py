"""httpx transport to a holder's socket. It opens connections itself, to check the process at the other end."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

from diptych.stores.edge.share.address import Address
from diptych.stores.edge.share.peers import may_answer

LIMITS = httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=60)


def transport(address: Address) -> httpx.HTTPTransport:
    """A transport that connects only to the holder at `address`."""
    made = httpx.HTTPTransport(uds=address.unix or None, limits=LIMITS)
    if address.unix:
        made._pool = httpcore.ConnectionPool(
            max_connections=LIMITS.max_connections,
            max_keepalive_connections=LIMITS.max_keepalive_connections,
            keepalive_expiry=LIMITS.keepalive_expiry,
            uds=address.unix,
            network_backend=_Backend(address),
        )
    return made


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
        if not may_answer(connected):
            connected.close()
            raise httpcore.ConnectError("another user listens at the socket")
        return _Stream(connected)


class _Stream(httpcore.NetworkStream):
    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Some bytes; none at the end."""
        try:
            self._socket.settimeout(timeout)
            return self._socket.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        try:
            self._socket.settimeout(timeout)
            self._socket.sendall(buffer)
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def get_extra_info(self, info: str) -> Any:
        """Tell the pool whether the other side has closed a kept connection."""
        return _is_readable(self._socket) if info == "is_readable" else None


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
